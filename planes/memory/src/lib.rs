//! Fast and losable: expiring keys, counters, sets, pub/sub, in process or on Redis/Valkey.
