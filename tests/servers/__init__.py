"""Real servers for the tests: given by URL, found on the machine, or out of a wheel.

`SQLMODEL_CACHE_TEST_REDIS_URL`, `..._POSTGRES_URL` and `..._MARIADB_URL` name a server; then it
must answer. `SQLMODEL_CACHE_TEST_SERVERS=wheels` takes servers from wheels and nothing else.
"""
