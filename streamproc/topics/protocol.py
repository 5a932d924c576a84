"""IncrementalAlterConfigs (KIP-339), which aiokafka lacks.

aiokafka's `alter_configs` sends the older AlterConfigs, which resets every config that the request does not name,
and so undoes what others have set. Schemas: https://kafka.apache.org/protocol#The_Messages_IncrementalAlterConfigs
"""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

_API_KEY = 44
_TOPIC = 2
_SET = 0


class IncrementalAlterConfigsResponseV0(Response):  # type: ignore[misc]  # aiokafka is untyped
    """One error code and message a resource."""

    API_KEY = _API_KEY
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class IncrementalAlterConfigsRequestV0(RequestStruct):  # type: ignore[misc]  # aiokafka is untyped
    """Resources, each with the configs to change."""

    API_KEY = _API_KEY
    API_VERSION = 0
    RESPONSE_TYPE = IncrementalAlterConfigsResponseV0
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(
                        ("name", String("utf-8")),
                        ("config_operation", Int8),
                        ("value", String("utf-8")),
                    ),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class SetTopicConfigs(Request[IncrementalAlterConfigsRequestV0]):  # type: ignore[misc]  # aiokafka is untyped
    """Sets configs of topics, by topic name and config name, and leaves all others as they are."""

    API_KEY = _API_KEY

    def __init__(self, configs: Mapping[str, Mapping[str, str]]) -> None:
        self._resources = [
            (_TOPIC, topic, [(name, _SET, value) for name, value in values.items()])
            for topic, values in configs.items()
        ]

    def build(
        self, request_struct_class: type[IncrementalAlterConfigsRequestV0]
    ) -> IncrementalAlterConfigsRequestV0:
        """The request in the version that the broker speaks."""
        return request_struct_class(self._resources, False)
