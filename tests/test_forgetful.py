"""What a disk that forgets has after a power cut: all that was synced, and of the rest whatever the rule allows."""

from __future__ import annotations

import contextlib
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailbe.torture.tree import ROOT, File, Folder, Rule, Tree

CUTS = 400  # so many different ones show whatever there is to see

Contents = dict[str, bytes | None]


class Disk:
    """A tree by path, as programs use it."""

    def __init__(self, rule: Rule) -> None:
        self.tree = Tree(rule)

    def write(self, path: str, octets: bytes, offset: int = 0) -> None:
        """Write into a file, which is made where there is none."""
        try:
            number = self.tree.find(path)
        except FileNotFoundError:
            number = self.tree.create(*self.tree.place(path), 0o600)
        self.tree.write(number, offset, octets)

    def truncate(self, path: str, size: int) -> None:
        self.tree.resize(self.tree.find(path), size)

    def sync(self, *paths: str) -> None:
        for path in paths:
            self.tree.sync(self.tree.find(path))

    def link(self, path: str, new_path: str) -> None:
        self.tree.link(self.tree.find(path), *self.tree.place(new_path))

    def rename(self, path: str, new_path: str) -> None:
        self.tree.rename(*self.tree.place(path), *self.tree.place(new_path))

    def unlink(self, path: str) -> None:
        self.tree.unlink(*self.tree.place(path))

    def rmdir(self, path: str) -> None:
        self.tree.rmdir(*self.tree.place(path))

    def mkdir(self, path: str) -> None:
        self.tree.mkdir(*self.tree.place(path), 0o700)

    def left(self) -> list[Contents]:
        """All that can be there after a cut."""
        trees = (self.tree.cut(Random(seed)) for seed in range(CUTS))
        different: list[Contents] = []
        for tree in trees:
            contents = dict(walk(tree))
            if contents not in different:
                different.append(contents)
        return different

    def left_of(self, path: str) -> set[bytes | str | None]:
        """What a file can be after a cut: its octets, or ``"gone"``."""
        return {contents.get(path, "gone") for contents in self.left()}


def walk(tree: Tree, number: int = ROOT, path: str = "") -> Iterator[tuple[str, bytes | None]]:
    """The path of everything in a tree, with a file's octets."""
    for name, inner in tree.folder(number).names.items():
        node = tree.node(inner)
        if isinstance(node, Folder):
            yield f"{path}{name}", None
            yield from walk(tree, inner, f"{path}{name}/")
        else:
            yield f"{path}{name}", bytes(node.octets)


class UnderBothRules(SynchronousTestCase):
    def disks(self) -> Iterator[Disk]:
        return map(Disk, Rule)

    def test_what_is_synced_with_its_folder_is_there(self) -> None:
        for disk in self.disks():
            disk.write("letter", b"Hello")
            disk.sync("letter", "")
            self.assertEqual(disk.left(), [{"letter": b"Hello"}], disk.tree.rule)

    def test_a_sync_that_comes_later_covers_all_before(self) -> None:
        for disk in self.disks():
            disk.mkdir("a")
            disk.write("a/letter", b"Hel")
            disk.write("a/letter", b"lo", 3)
            disk.link("a/letter", "a/other")
            disk.sync("a/other", "a", "")
            self.assertEqual(disk.left(), [{"a": None, "a/letter": b"Hello", "a/other": b"Hello"}])

    def test_what_is_done_after_the_sync_may_be_lost_and_may_not(self) -> None:
        for disk in self.disks():
            disk.write("letter", b"Hello")
            disk.sync("letter", "")
            disk.unlink("letter")
            self.assertEqual(disk.left_of("letter"), {b"Hello", "gone"})

    def test_a_deletion_is_for_ever_once_its_folder_is_synced(self) -> None:
        for disk in self.disks():
            disk.write("letter", b"Hello")
            disk.sync("letter", "")
            disk.unlink("letter")
            disk.sync("")
            self.assertEqual(disk.left(), [{}])

    def test_a_letter_that_was_linked_from_a_spool_is_there_whatever_became_of_the_spool(self) -> None:
        for disk in self.disks():
            for folder in ("spool", "new"):
                disk.mkdir(folder)
            disk.sync("")
            disk.write("spool/draft", b"Hello")
            disk.sync("spool/draft")
            disk.link("spool/draft", "new/letter")
            disk.sync("new")
            disk.unlink("spool/draft")
            self.assertEqual(disk.left_of("new/letter"), {b"Hello"})
            self.assertEqual(disk.left_of("spool/draft"), {b"Hello", "gone"})

    def test_an_unsynced_write_may_be_there_in_part(self) -> None:
        for disk in self.disks():
            disk.write("letter", b"12345678")
            disk.sync("letter", "")
            disk.write("letter", b"abcd")
            left = disk.left_of("letter")
            self.assertGreaterEqual(left, {b"12345678", b"abcd5678"})
            self.assertTrue(left & {b"a2345678", b"ab345678", b"abc45678"}, left)

    def test_a_truncation_is_kept_or_lost(self) -> None:
        for disk in self.disks():
            disk.write("letter", b"12345678")
            disk.sync("letter", "")
            disk.truncate("letter", 4)
            self.assertEqual(disk.left_of("letter"), {b"12345678", b"1234"})
            disk.sync("letter")
            self.assertEqual(disk.left_of("letter"), {b"1234"})

    def test_open_files_outlive_their_names_and_not_the_power(self) -> None:
        for disk in self.disks():
            disk.write("letter", b"Hello")
            number = disk.tree.find("letter")
            disk.tree.hold(number)
            disk.unlink("letter")
            disk.sync("")
            disk.tree.write(number, 5, b"!")
            self.assertEqual(disk.tree.read(number, 0, 100), b"Hello!")
            self.assertEqual(disk.tree.node(number).links, 0)
            self.assertEqual(disk.left(), [{}])
            disk.tree.release(number)
            self.assertRaises(KeyError, disk.tree.node, number)

    def test_a_folder_that_is_removed_is_forgotten_with_all_that_was_ever_in_it(self) -> None:
        for disk in self.disks():
            for synced in (("box/old", "box", ""), ("box/old",)):
                disk.mkdir("box")
                disk.write("box/old", b"Hello")
                disk.sync(*synced)
                disk.write("box/new", b"Hello")
                for path in ("box/old", "box/new"):
                    disk.unlink(path)
                disk.rmdir("box")
                disk.sync("")
                self.assertEqual(disk.left(), [{}])
                check_sound(disk.tree)

    def test_a_rename_takes_the_place_of_what_was_there(self) -> None:
        for disk in self.disks():
            for path in ("a", "b"):
                disk.mkdir(path)
            disk.write("a/letter", b"Hello")
            disk.write("other", b"Goodbye")
            disk.rename("a", "b")
            disk.rename("b/letter", "other")
            disk.link("other", "b/again")
            disk.rename("other", "b/again")  # POSIX: two names of one file stay as they are
            disk.sync("other", "b", "")
            self.assertEqual(disk.left(), [{"b": None, "b/again": b"Hello", "other": b"Hello"}])
            check_sound(disk.tree)

    def test_permissions_and_times_are_not_forgotten(self) -> None:
        for disk in self.disks():
            disk.write("letter", b"Hello")
            disk.sync("letter", "")
            number = disk.tree.find("letter")
            disk.tree.set_permissions(number, 0o640)
            disk.tree.set_modified(number, 123_456_789)
            left = disk.tree.cut(Random(0)).node(number)
            self.assertEqual((left.mode & 0o777, left.modified), (0o640, 123_456_789))

    def test_the_same_seed_cuts_the_same(self) -> None:
        for disk in self.disks():
            for number in range(20):
                disk.write(f"letter{number}", b"Hello" * number)
            copy = pickle.loads(pickle.dumps(disk.tree))  # noqa: S301 (our own)
            for seed in range(20):
                self.assertEqual(dict(walk(disk.tree.cut(Random(seed)))), dict(walk(copy.cut(Random(seed)))))

    def test_what_cannot_be_done_fails_as_in_the_kernel(self) -> None:
        for disk in self.disks():
            disk.mkdir("a")
            disk.mkdir("b")
            disk.write("a/letter", b"Hello")
            self.assertRaises(FileNotFoundError, disk.tree.find, "c/letter")
            self.assertRaises(NotADirectoryError, disk.tree.find, "a/letter/x")
            self.assertRaises(FileExistsError, disk.mkdir, "a")
            self.assertRaises(FileExistsError, disk.link, "a/letter", "b")
            self.assertRaises(PermissionError, disk.link, "a", "c")
            self.assertRaises(IsADirectoryError, disk.unlink, "a")
            self.assertRaises(IsADirectoryError, disk.rename, "a/letter", "b")
            self.assertRaises(IsADirectoryError, disk.tree.write, ROOT, 0, b"")
            self.assertRaises(NotADirectoryError, disk.rename, "b", "a/letter")
            self.assertRaises(OSError, disk.rmdir, "a")
            self.assertRaises(OSError, disk.rename, "b", "a")


class UnderPosix(SynchronousTestCase):
    """Only what was synced is sure, each thing by itself."""

    def setUp(self) -> None:
        self.disk = Disk(Rule.POSIX)

    def test_a_file_that_was_not_synced_is_lost_kept_or_anything_between(self) -> None:
        self.disk.write("letter", b"12345678")
        left = self.disk.left_of("letter")
        beginnings: set[bytes | str | None] = {b"12345678"[:size] for size in range(9)}
        self.assertGreaterEqual(left, {"gone", b"", b"12345678", bytes(8)})
        self.assertLessEqual(left, beginnings | {"gone", bytes(8)})
        self.assertGreater(len(left), 4, "none is torn")

    def test_fsync_of_a_file_does_not_make_its_name_sure(self) -> None:
        self.disk.write("letter", b"Hello")
        self.disk.sync("letter")
        self.assertEqual(self.disk.left_of("letter"), {b"Hello", "gone"})

    def test_fsync_of_a_folder_does_not_make_contents_sure(self) -> None:
        self.disk.write("letter", b"Hello")
        self.disk.sync("")
        left = self.disk.left_of("letter")
        self.assertGreaterEqual(left, {b"", b"Hello", bytes(5)})
        self.assertNotIn("gone", left)

    def test_fsync_of_one_folder_says_nothing_about_another(self) -> None:
        for name in ("a", "b"):
            self.disk.mkdir(name)
        self.disk.sync("")
        for name in ("a/letter", "b/letter"):
            self.disk.write(name, b"Hello")
            self.disk.sync(name)
        self.disk.sync("a")
        self.assertEqual(self.disk.left_of("a/letter"), {b"Hello"})
        self.assertEqual(self.disk.left_of("b/letter"), {b"Hello", "gone"})

    def test_an_unlink_may_be_kept_without_the_link_before_it(self) -> None:
        for name in ("spool", "new"):
            self.disk.mkdir(name)
        self.disk.write("spool/draft", b"Hello")
        self.disk.sync("spool/draft", "spool", "")
        self.disk.link("spool/draft", "new/letter")
        self.disk.unlink("spool/draft")
        folders: Contents = {"spool": None, "new": None}
        self.assertIn(folders, self.disk.left())

    def test_the_halves_of_a_rename_are_lost_by_themselves(self) -> None:
        for name in ("a", "b"):
            self.disk.mkdir(name)
        self.disk.write("a/letter", b"Hello")
        self.disk.sync("a/letter", "a", "")
        self.disk.rename("a/letter", "b/letter")
        halves = {("a/letter" in contents, "b/letter" in contents) for contents in self.disk.left()}
        self.assertEqual(halves, {(True, True), (True, False), (False, True), (False, False)})
        self.disk.sync("b")
        self.assertEqual(self.disk.left_of("b/letter"), {b"Hello"})

    def test_a_folder_never_has_two_names(self) -> None:
        for name in ("a", "b", "a/box"):
            self.disk.mkdir(name)
        self.disk.write("a/box/letter", b"Hello")
        self.disk.sync("a/box/letter", "a/box", "a", "b", "")
        self.disk.rename("a/box", "b/box")
        places = {("a/box/letter" in contents, "b/box/letter" in contents) for contents in self.disk.left()}
        self.assertEqual(places, {(True, False), (False, True), (False, False)})

    def test_a_folder_that_was_moved_stays_where_it_was_synced(self) -> None:
        """The old name may come back, as its folder was not synced; it must not take the new one's place."""
        for name in ("a", "b"):
            self.disk.mkdir(name)
        self.disk.sync("")
        self.disk.rename("a", "b/a")
        self.disk.sync("b")
        self.assertEqual(self.disk.left(), [{"b": None, "b/a": None}])

    def test_a_folder_that_was_moved_is_where_it_was_when_its_new_place_is_lost(self) -> None:
        self.disk.mkdir("a")
        self.disk.write("a/letter", b"Hello")
        self.disk.sync("a/letter", "a", "")
        self.disk.mkdir("b")
        self.disk.rename("a", "b/a")
        self.disk.sync("b")
        letters = {tuple(sorted(path for path in contents if "letter" in path)) for contents in self.disk.left()}
        self.assertEqual(letters, {("a/letter",), ("b/a/letter",), ()})

    def test_nested_folders_are_there_only_if_each_was_synced_where_its_name_stands(self) -> None:
        for name in ("a", "a/b", "a/b/c"):
            self.disk.mkdir(name)
        self.disk.write("a/b/c/letter", b"Hello")
        self.disk.sync("a/b/c/letter", "a/b/c", "a/b", "a")
        self.assertIn({}, self.disk.left())
        self.assertEqual(self.disk.left_of("a/b/c/letter"), {b"Hello", "gone"})
        self.disk.sync("")
        self.assertEqual(self.disk.left_of("a/b/c/letter"), {b"Hello"})

    def test_a_level_in_the_middle_that_was_not_synced_takes_all_below_with_it(self) -> None:
        for name in ("a", "a/b", "a/b/c"):
            self.disk.mkdir(name)
        self.disk.write("a/b/c/letter", b"Hello")
        self.disk.sync("a/b/c/letter", "a/b/c", "a/b", "")
        self.assertIn({"a": None}, self.disk.left())

    def test_earlier_writes_may_be_lost_and_later_ones_kept(self) -> None:
        self.disk.write("letter", b"1")
        self.disk.write("letter", b"2", 1)
        self.assertIn(b"\0" + b"2", self.disk.left_of("letter"))


class UnderExt4(SynchronousTestCase):
    """Names come in their order, octets when they like."""

    def setUp(self) -> None:
        self.disk = Disk(Rule.EXT4)

    def test_a_file_that_was_not_synced_is_empty_or_a_beginning(self) -> None:
        self.disk.write("letter", b"1234")
        self.disk.write("letter", b"5678", 4)
        left = self.disk.left_of("letter")
        beginnings: set[bytes | str | None] = {b"12345678"[:size] for size in range(9)}
        self.assertGreaterEqual(left, {"gone", b"", b"1234", b"12345678"})
        self.assertLessEqual(left, beginnings | {"gone"})

    def test_fsync_of_a_file_makes_its_name_sure_and_all_names_before(self) -> None:
        self.disk.mkdir("a")
        self.disk.write("a/empty", b"Hello")
        self.disk.write("letter", b"Hello")
        self.disk.sync("letter")
        self.assertEqual(self.disk.left_of("letter"), {b"Hello"})
        self.assertGreaterEqual(self.disk.left_of("a/empty"), {b"", b"Hello"})
        self.assertNotIn("gone", self.disk.left_of("a/empty"))

    def test_names_are_lost_from_the_last_one_on(self) -> None:
        names = ["a", "b", "c", "d"]
        for name in names:
            self.disk.write(name, b"")
        beginnings = [dict.fromkeys(names[:count], b"") for count in range(5)]
        self.assertCountEqual(self.disk.left(), beginnings)

    def test_a_rename_is_kept_or_lost_as_a_whole(self) -> None:
        for name in ("a", "b"):
            self.disk.mkdir(name)
        self.disk.write("a/letter", b"Hello")
        self.disk.sync("a/letter")
        self.disk.rename("a/letter", "b/letter")
        halves = {("a/letter" in contents, "b/letter" in contents) for contents in self.disk.left()}
        self.assertEqual(halves, {(True, False), (False, True)})

    def test_a_file_that_is_written_anew_may_be_empty_after_any_other_sync(self) -> None:
        self.disk.write("letter", b"12345678")
        self.disk.write("other", b"")
        self.disk.sync("letter")
        self.disk.truncate("letter", 0)
        self.disk.write("letter", b"87654321")
        self.assertIn(b"12345678", self.disk.left_of("letter"))
        self.disk.sync("other")
        left = self.disk.left_of("letter")
        self.assertNotIn(b"12345678", left)
        self.assertGreaterEqual(left, {b"", b"87654321"})


FOLDERS = ["", "a/", "b/", "a/c/"]
PATHS = [folder + name for folder in FOLDERS for name in "abcx"]
PATH = st.sampled_from(PATHS)
OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["unlink", "rmdir", "mkdir", "mkdir"]), PATH),
    st.tuples(st.sampled_from(["sync", "sync"]), st.sampled_from(["", *PATHS])),
    st.tuples(st.sampled_from(["link", "rename"]), PATH, PATH),
    st.tuples(st.just("write"), PATH, st.binary(max_size=6), st.integers(0, 6)),
    st.tuples(st.just("truncate"), PATH, st.integers(0, 6)),
)


class Books:
    """What is sure, found in another way: all that was neither changed nor written since it was last synced."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.unsure_names: set[tuple[int, str]] = set()
        self.unsure_files: set[int] = set()

    def do_all(self, operations: Iterable[tuple[Any, ...]]) -> None:
        for operation in (("mkdir", "a"), ("mkdir", "b"), ("mkdir", "a/c"), *operations):
            self.do(*operation)

    def do(self, verb: str, path: str, *rest: Any) -> None:
        if verb == "rename" and f"{rest[0]}/".startswith(f"{path}/"):
            return  # the kernel would not ask
        tree = self.disk.tree
        before = self.snapshot()
        with contextlib.suppress(OSError):
            if verb == "sync":
                number = tree.find(path)
                self.unsure_files.discard(number)
                everything = tree.rule is Rule.EXT4
                self.unsure_names = {
                    (folder, name) for folder, name in self.unsure_names if not everything and folder != number
                }
            getattr(self.disk, verb)(path, *rest)
            if verb == "write":
                self.unsure_files.add(tree.find(path))  # even if it wrote what was there
        after = self.snapshot()
        for folder in before.keys() | after.keys():
            old, new = before.get(folder, {}), after.get(folder, {})
            if isinstance(old, bytes) or isinstance(new, bytes):
                if old != new:
                    self.unsure_files.add(folder)
            else:
                self.unsure_names |= {
                    (folder, name) for name in old.keys() | new.keys() if old.get(name) != new.get(name)
                }

    def snapshot(self) -> dict[int, bytes | dict[str, int]]:
        """All nodes that have a name, by number."""
        found: dict[int, bytes | dict[str, int]] = {}
        waiting = [ROOT]
        while waiting:
            number = waiting.pop()
            node = self.disk.tree.node(number)
            if isinstance(node, File):
                found[number] = bytes(node.octets)
            else:
                found[number] = dict(node.names)
                waiting.extend(node.names.values())
        return found

    def check(self, left: Tree, number: int = ROOT) -> None:
        """All that is sure is in ``left``, and in a folder that is sure nothing else but what is not."""
        here, there = self.disk.tree.node(number), left.node(number)
        if isinstance(here, File):
            assert isinstance(there, File)
            assert number in self.unsure_files or here.octets == there.octets, (number, here, there)
            return
        assert isinstance(there, Folder)
        for name in here.names.keys() | there.names.keys():
            if (number, name) not in self.unsure_names:
                assert here.names.get(name) == there.names.get(name), (number, name)
                self.check(left, here.names[name])


def check_sound(tree: Tree) -> None:
    """Every folder has one name, the links are counted right, and nothing is kept that no name leads to."""
    names = Counter({ROOT: 1})
    waiting = [ROOT]
    while waiting:
        node = tree.node(waiting.pop())
        if isinstance(node, Folder):
            names.update(node.names.values())
            waiting.extend(node.names.values())
            assert node.names == node.on_disk
        else:
            assert node.octets == node.on_disk
        assert not node.pending
    assert names == {number: tree.node(number).links for number in tree._nodes}
    assert all(names[number] == 1 for number in names if isinstance(tree.node(number), Folder))


class WhateverIsDone(SynchronousTestCase):
    def test_what_is_written_again_is_no_longer_sure(self) -> None:
        """A write may leave zeros, and what it writes over is gone then, even if it was the same."""
        disk = Disk(Rule.POSIX)
        books = Books(disk)
        books.do_all([("write", "x", b"Hello", 0), ("sync", "x"), ("sync", ""), ("write", "x", b"Hello", 0)])
        self.assertEqual(disk.left_of("x"), {b"Hello", bytes(5)})
        for seed in range(CUTS):
            books.check(disk.tree.cut(Random(seed)))

    @settings(max_examples=300)
    @given(
        st.sampled_from(Rule),
        st.lists(st.lists(OPERATIONS, max_size=30), max_size=3),
        st.randoms(use_true_random=False),
    )
    def test_what_is_left_is_sound_and_has_all_that_was_synced(
        self, rule: Rule, lives: list[list[tuple[Any, ...]]], random: Random
    ) -> None:
        disk = Disk(rule)
        for operations in lives:
            books = Books(disk)
            books.do_all(operations)
            left = disk.tree.cut(random)
            books.check(left)
            check_sound(left)
            disk.tree = left

    @settings(max_examples=200)
    @given(st.sampled_from(Rule), st.lists(OPERATIONS, max_size=40), st.randoms(use_true_random=False))
    def test_a_disk_that_is_synced_throughout_keeps_everything_and_remembers_nothing_else(
        self, rule: Rule, operations: list[tuple[Any, ...]], random: Random
    ) -> None:
        disk = Disk(rule)
        Books(disk).do_all(operations)
        everything = dict(walk(disk.tree))
        disk.sync(*everything, "")
        check_sound(disk.tree)
        self.assertEqual(dict(walk(disk.tree.cut(random))), everything)
