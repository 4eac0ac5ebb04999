"""Hidden keys: one for each row, told to nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqlmodel_cache.codec.keyhash import MARK, KeySecret
from sqlmodel_cache.keys import HiddenKeySpace, KeySpace, row_in
from sqlmodel_cache.orm.model.uniques import is_pointer

SECRET = "correct horse battery staple"
TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30).map(
    lambda text: f"s{text}"
)


def space(secret: str = SECRET, table: str = "person", namespace: str = "ns") -> HiddenKeySpace:
    """Return the keys of a table."""
    return HiddenKeySpace("prefix", namespace, table, 0, KeySecret(secret).hider)


@given(one=TEXTS, other=TEXTS)
def test_one_key_for_each_row(one: str, other: str) -> None:
    """The same each time, and another for another row; of one length."""
    entries = space().entry(one), space().entry(other)
    assert (entries[0] == entries[1]) == (one == other)
    assert len({len(entry.value) for entry in entries}) == 1


def test_nothing_is_told() -> None:
    """Neither the key, nor the lock, nor which shard says what the row's key is."""
    entry = space().entry("sann@example.org")
    assert "ann" not in entry.value + entry.lock
    assert entry.pk.startswith(MARK)
    shards = {
        space(f"a secret of {n} words").entry("sann@example.org").shard.head for n in range(40)
    }
    assert len(shards) > 1


def test_the_front_stays() -> None:
    """Schema and unique key can be told, so that purge() knows what a key is of."""
    for front in ("", "@other:", "~email:", "@other:~a,b:"):
        pk = space().entry(f"{front}s:~@").pk
        assert pk.startswith(f"{front}{MARK}")
        assert is_pointer(pk) == ("~" in front)
    assert row_in(space().entry("i1").value)[0] == "person"


def test_other_tables_and_secrets() -> None:
    """What is one person's in two places cannot be seen to be."""
    names = {
        space().entry("i1").pk,
        space(table="account").entry("i1").pk,
        space(namespace="other").entry("i1").pk,
        space("another secret, as long").entry("i1").pk,
        KeySpace("prefix", "ns", "person").entry("i1").pk,
    }
    assert len(names) == 5


def test_copies_are_no_matter() -> None:
    """With and without copies in the process the store's keys are the same."""
    copied = HiddenKeySpace("prefix", "ns", "person", 5, KeySecret(SECRET).hider)
    assert copied.entry("i1") == space().entry("i1") == copied.uncopied.entry("i1")
    assert copied.entry("i1").shard.local_ttl == 5
    assert copied.uncopied.entry("i1").shard.local_ttl == 0


def test_a_secret_is_not_shown() -> None:
    """Only whether it is the same."""
    one, same, other = KeySecret(SECRET), KeySecret(SECRET.encode()), KeySecret(SECRET + "!")
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert SECRET not in repr(one)
    assert not hasattr(one, "__dict__")
