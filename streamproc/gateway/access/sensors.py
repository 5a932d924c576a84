"""Which sensors there are, and whose: what a reading is checked against. Pure."""

from __future__ import annotations

from streamproc.records import DeviceEntry, SensorEntry

#: What `owner` gives for a sensor that the registry does not have.
UNKNOWN = object()


class Sensors:
    """Each sensor's device, and the devices that are locked out; all names in lower case, as readings have them."""

    def __init__(self) -> None:
        self._owners: dict[str, str | None] = {}
        self._names_by_id: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self.locked: set[str] = set()

    def __len__(self) -> int:
        return len(self._owners)

    def put(self, name: str, entry: SensorEntry | None) -> None:
        """Take a sensor as it is now; None where it is gone."""
        if (known := self._ids.pop(name, None)) is not None and self._names_by_id.get(known) == name:
            del self._names_by_id[known]
        if entry is None:
            self._owners.pop(name, None)
            return
        self._owners[name] = entry.device.lower() if entry.device else None
        if entry.sensor_id is not None:
            self._ids[name] = str(entry.sensor_id)
            self._names_by_id[str(entry.sensor_id)] = name

    def put_device(self, name: str, entry: DeviceEntry | None) -> None:
        """Take a device as it is now; None where it is gone."""
        if entry is not None and not entry.enabled:
            self.locked.add(name.lower())
        else:
            self.locked.discard(name.lower())

    def owner(self, name: str) -> object:
        """The device of a sensor, given by its uuid or its id: None where it has none, UNKNOWN where nobody knows it."""
        owner = self._owners.get(name, UNKNOWN)
        if owner is UNKNOWN and (known := self.numbered(name)):
            return self._owners[known]
        return owner

    def numbered(self, number: str) -> str | None:
        """The name of the sensor of this id, where it is no sensor's name itself; None where nobody knows it."""
        return None if number in self._owners else self._names_by_id.get(number)
