"""Dagster's SQLite storage, with connections that are kept.

Dagster opens the file anew for each event that it stores or reads, and compiles each statement anew: of a
build of small months that was four tenths of the processor's time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import sqlalchemy as db
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, _event_logs_directory
from dagster._serdes import ConfigurableClassData

_KEPT = 8


class SqliteStorage(DagsterSqliteStorage):
    """The same files as Dagster's own: a home can be opened with either."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = _Events(_event_logs_directory(base_dir))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> SqliteStorage:
        """Return the storage that `dagster.yaml` names; Dagster's own method returns Dagster's class."""
        return cls.from_local(inst_data=inst_data, **config_value)


class _Events(SqliteEventLogStorage):
    """One open connection for each of the files in use: that of all assets, and those of the latest runs."""

    def __init__(self, base_dir: str) -> None:
        self._engine_of = lru_cache(_KEPT)(self._new_engine)
        super().__init__(base_dir)

    def _new_engine(self, shard: str) -> db.Engine:
        with super()._connect(shard):
            pass  # makes the tables where there are none
        engine = db.create_engine(
            self.conn_string_for_shard(shard),
            pool_size=1,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
        )
        db.event.listen(engine, "connect", _wait_for_the_disk_at_checkpoints)
        return engine

    @contextmanager
    def _connect(self, shard: str) -> Iterator[db.Connection]:
        engine = self._engine_of(shard)
        with self._db_lock, engine.begin() as connection:
            yield connection

    def wipe(self) -> None:
        self._engine_of.cache_clear()
        super().wipe()

    def dispose(self) -> None:
        self._engine_of.cache_clear()
        super().dispose()


def _wait_for_the_disk_at_checkpoints(connection: sqlite3.Connection, _: object) -> None:
    """Not at each event: a power cut loses the last events, no more; a killed process loses none.

    What has been built is known from the lake, not from events.
    """
    connection.execute("PRAGMA synchronous=NORMAL")
