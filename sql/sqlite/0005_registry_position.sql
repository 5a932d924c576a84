-- The position of the topic `registry` that the record at next_offset of `readings` is judged by: whose each sensor is. It is
-- NULL of other topics, and of partitions that were written before there was such a column: those begin with the registry as of
-- the time of their next record. Who sets next_offset to another place by hand sets it to NULL as well.
ALTER TABLE stream_offsets ADD COLUMN registry_position INTEGER;
