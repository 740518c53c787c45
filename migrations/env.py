"""Alembic's entry: runs migrations on the connection it is given, or on ``alembic -x url=…``."""

from alembic import context
from sqlalchemy import Connection

from app.db.models import Base
from app.db.session import make_engine


def _run(connection: Connection) -> None:
    # Batch mode rebuilds tables where SQLite cannot alter them, so that both databases share one history.
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _url() -> str:
    given = context.get_x_argument(as_dictionary=True).get("url")
    return given or context.config.get_main_option("sqlalchemy.url") or "sqlite:///var/volcal.db"


if context.is_offline_mode():
    context.configure(url=_url(), target_metadata=Base.metadata, literal_binds=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    engine = make_engine(_url(), foreign_keys=False)
    with engine.begin() as opened:
        _run(opened)
    engine.dispose()
