use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::testing::{Cut, for_every_cut};

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn create(disk: &SimDisk, at: &str, bytes: &[u8]) -> Box<dyn MediumFile> {
    let file = disk.open(path(at), OpenMode::CreateNew).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

#[test]
fn unsynced_data_is_lost_though_its_name_is_kept() {
    let disk = SimDisk::new();
    create(&disk, "/f", b"data");
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(disk.contents(path("/f")).unwrap(), b"data");
    assert_eq!(disk.crash_strict().contents(path("/f")).unwrap(), b"");
    assert_eq!(disk.crash_all().contents(path("/f")).unwrap(), b"data");
}

#[test]
fn an_unsynced_name_is_lost_though_its_data_is_synced() {
    let disk = SimDisk::new();
    create(&disk, "/f", b"data").sync().unwrap();
    assert_eq!(disk.crash_strict().files(), Vec::<PathBuf>::new());
    assert_eq!(disk.crash_names_only().contents(path("/f")).unwrap(), b"data");
    assert_eq!(disk.crash_data_only().files(), Vec::<PathBuf>::new());
}

#[test]
fn what_was_synced_survives_every_crash() {
    let disk = SimDisk::new();
    let file = create(&disk, "/f", &[7; 3000]);
    file.sync().unwrap();
    disk.sync_dir(path("/")).unwrap();
    file.write_at(3000, &[8; 3000]).unwrap();
    for crashed in disk.crashes(200) {
        let left = crashed.contents(path("/f")).unwrap();
        assert_eq!(left[..3000], [7; 3000]);
        assert!(left.len() <= 6000);
    }
}

#[test]
fn a_folder_needs_the_sync_of_the_folder_above() {
    let disk = SimDisk::new();
    disk.create_dir(path("/d")).unwrap();
    create(&disk, "/d/f", b"data").sync().unwrap();
    disk.sync_dir(path("/d")).unwrap();
    assert!(!disk.crash_strict().exists(path("/d")).unwrap());
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(disk.crash_strict().contents(path("/d/f")).unwrap(), b"data");
}

#[test]
fn a_removed_name_may_come_back_until_its_folder_is_synced() {
    let disk = SimDisk::new();
    disk.put(path("/f"), b"old").unwrap();
    let open = disk.open(path("/f"), OpenMode::Read).unwrap();
    disk.remove(path("/f")).unwrap();
    assert!(!disk.exists(path("/f")).unwrap());
    assert_eq!(open.len().unwrap(), 3, "an open file outlives its name");
    assert_eq!(disk.crash_strict().contents(path("/f")).unwrap(), b"old");
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(disk.crash_strict().contents(path("/f")), None);
}

#[test]
fn a_rename_within_a_folder_is_atomic_and_one_between_folders_is_not() {
    let disk = SimDisk::new();
    disk.put(path("/a/f"), b"new").unwrap();
    disk.put(path("/a/g"), b"old").unwrap();
    disk.put_dir(path("/b")).unwrap();
    let within = disk.snapshot();
    within.rename(path("/a/f"), path("/a/g")).unwrap();
    for crashed in within.crashes(50) {
        let left = (crashed.contents(path("/a/f")), crashed.contents(path("/a/g")).unwrap());
        assert!(left == (Some(b"new".to_vec()), b"old".to_vec()) || left == (None, b"new".to_vec()), "{left:?}");
    }
    disk.rename(path("/a/f"), path("/b/f")).unwrap();
    let left: BTreeSet<_> = disk
        .crashes(100)
        .map(|crashed| (crashed.contents(path("/a/f")).is_some(), crashed.contents(path("/b/f")).is_some()))
        .collect();
    assert_eq!(left.len(), 4, "neither, either, both: {left:?}");
}

#[test]
fn a_rename_before_the_sync_is_caught() {
    let disk = SimDisk::new();
    disk.put(path("/f"), b"old").unwrap();
    create(&disk, "/f.tmp", b"new");
    disk.rename(path("/f.tmp"), path("/f")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(disk.crash_strict().contents(path("/f")).unwrap(), b"");
}

#[test]
fn a_cut_stops_everything_and_changes_nothing_more() {
    let disk = SimDisk::new();
    let file = create(&disk, "/f", b"one");
    disk.set_cut_after(3);
    file.sync().unwrap();
    assert!(!disk.was_cut());
    for refused in [
        file.write_at(0, b"two"),
        file.sync(),
        disk.sync_dir(path("/")),
        disk.remove(path("/f")),
        file.len().map(|_| ()),
        disk.list(path("/")).map(|_| ()),
    ] {
        assert_eq!(refused.unwrap_err().source.raw_os_error(), Some(Errno::IO.raw_os_error()));
    }
    assert!(disk.was_cut());
    assert_eq!(disk.operations(), 3);
    assert_eq!(disk.contents(path("/f")).unwrap(), b"one");
    assert!(disk.crash_all().open(path("/f"), OpenMode::Read).is_ok(), "the crashed disk has power");
}

#[test]
fn a_recording_disk_forks_at_every_operation() {
    let disk = SimDisk::recording();
    let file = create(&disk, "/f", b"one");
    file.sync().unwrap();
    file.write_at(0, b"two").unwrap();
    disk.sync_dir(path("/")).unwrap();
    let seen: Vec<_> = (0..=5).map(|op| disk.fork_at(op).map(|fork| fork.contents(path("/f")))).collect();
    let at = |bytes: &[u8]| Some(Some(bytes.to_vec()));
    assert_eq!(seen, [Some(None), at(b""), at(b"one"), at(b"one"), at(b"two"), at(b"two")]);
    assert!(disk.fork_at(6).is_none() && SimDisk::new().fork_at(0).is_none());
    assert_eq!(disk.fork_at(4).unwrap().crash_names_only().contents(path("/f")).unwrap(), b"one");
}

#[test]
fn random_crashes_show_torn_lost_grown_and_stale_data() {
    let disk = SimDisk::new();
    disk.put(path("/other"), &[0x55; 4096]).unwrap();
    disk.put(path("/f"), &[1; 1024]).unwrap();
    let file = disk.open(path("/f"), OpenMode::ReadWrite).unwrap();
    file.write_at(512, &[2; 2048]).unwrap();
    file.write_at(2560, &[3; 512]).unwrap();
    let images: BTreeSet<_> = (0..400).map(|seed| disk.crash(seed).contents(path("/f")).unwrap()).collect();
    assert!(images.len() > 40, "{} images", images.len());
    assert!(images.iter().all(|image| image[..512] == [1; 512]), "an untouched sector stays");
    let any = |what: &str, hit: &dyn Fn(&[u8]) -> bool| assert!(images.iter().any(|image| hit(image)), "{what}");
    any("lost", &|image| image == [1; 1024]);
    any("whole", &|image| image.len() == 3072 && image[2560..] == [3; 512]);
    any("torn", &|image| image.len() > 1536 && image[512..1024] == [1; 512] && image[1024..1536] == [2; 512]);
    any("last without first", &|image| image.len() == 3072 && image[2560..] == [3; 512] && image[512] == 1);
    any("grown with zeros", &|image| image.len() >= 2560 && image[2048..2560] == [0; 512]);
    any("grown with another file's bytes", &|image| image.len() >= 2560 && image[2048..2560] == [0x55; 512]);
    any("length lost", &|image| image.len() == 1024 && image[512] == 2);
}

#[test]
fn write_atomic_survives_a_crash_at_every_operation_with_the_old_or_the_new_content() {
    let old = vec![0xaa; 1500];
    let new = vec![0xbb; 2600];
    let mut left = BTreeSet::new();
    let checked = for_every_cut(
        60,
        || {
            let disk = SimDisk::new();
            disk.put(path("/home/head"), &old).unwrap();
            disk.put(path("/home/head.tmp"), b"left over").unwrap();
            disk
        },
        |disk| disk.write_atomic(path("/home/head"), &new),
        |cut: Cut, outcome, crashed| {
            let found = crashed.contents(path("/home/head")).unwrap();
            assert!(found == old || found == new, "{cut:?}: neither old nor new");
            if outcome.is_ok() {
                assert_eq!(found, new, "{cut:?}: acknowledged, then lost");
            }
            left.insert(found);
            // Recovery runs the same function, power or not.
            crashed.write_atomic(path("/home/head"), b"next").unwrap();
            assert_eq!(crashed.crash_strict().contents(path("/home/head")).unwrap(), b"next");
        },
    );
    assert_eq!(left.len(), 2);
    assert_eq!(checked, 7 * 64);
}

#[test]
fn write_atomic_makes_a_first_file_whole_or_not_at_all() {
    for_every_cut(
        60,
        SimDisk::new,
        |disk| disk.write_atomic(path("/head"), &[9; 700]),
        |cut, outcome, crashed| {
            let found = crashed.contents(path("/head"));
            assert!(found.is_none() && outcome.is_err() || found == Some(vec![9; 700]), "{cut:?}: {found:?}");
        },
    );
}

#[test]
fn paths_and_kinds_are_checked_as_a_file_system_does() {
    let disk = SimDisk::new();
    disk.put(path("/d/f"), b"x").unwrap();
    let refused = |error: StoreError| error.source.raw_os_error().unwrap();
    let create_again = disk.open(path("/d/f"), OpenMode::CreateNew).map(|_| ()).unwrap_err();
    assert_eq!(refused(create_again), Errno::EXIST.raw_os_error());
    assert!(disk.open(path("/d/missing"), OpenMode::Read).map(|_| ()).unwrap_err().is_not_found());
    assert_eq!(refused(disk.open(path("/d"), OpenMode::Read).map(|_| ()).unwrap_err()), Errno::ISDIR.raw_os_error());
    assert_eq!(refused(disk.remove(path("/d")).unwrap_err()), Errno::ISDIR.raw_os_error());
    assert_eq!(refused(disk.rename(path("/d"), path("/d/f/g")).unwrap_err()), Errno::NOTDIR.raw_os_error());
    assert_eq!(refused(disk.rename(path("/d"), path("/d/g")).unwrap_err()), Errno::INVAL.raw_os_error());
    assert_eq!(refused(disk.exists(path("/../x")).unwrap_err()), Errno::INVAL.raw_os_error());
    let read_only = disk.open(path("/d/f"), OpenMode::Read).unwrap();
    assert_eq!(refused(read_only.write_at(0, b"y").unwrap_err()), Errno::BADF.raw_os_error());
    let file = disk.open(path("d/f"), OpenMode::ReadWrite).unwrap();
    assert_eq!(refused(file.write_at(u64::MAX, b"y").unwrap_err()), Errno::FBIG.raw_os_error());
    disk.rename(path("/d"), path("/e")).unwrap();
    assert_eq!(disk.files(), [PathBuf::from("/e/f")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_crash_never_touches_synced_sectors_that_nothing_wrote_to(
        writes in prop::collection::vec((0_u64..6000, 1_usize..2000, any::<u8>()), 1..6),
        seed in any::<u64>(),
    ) {
        let disk = SimDisk::new();
        disk.put(path("/f"), &[0xee; 8192]).unwrap();
        let file = disk.open(path("/f"), OpenMode::ReadWrite).unwrap();
        let mut touched = [false; 16];
        for (offset, len, byte) in writes {
            file.write_at(offset, &vec![byte; len]).unwrap();
            let first = usize::try_from(offset).unwrap();
            touched[first / 512..=(first + len - 1) / 512].fill(true);
        }
        let image = disk.crash(seed).contents(path("/f")).unwrap();
        prop_assert_eq!(image.len(), 8192);
        for (sector, _) in image.chunks(512).zip(touched).filter(|(_, touched)| !touched) {
            prop_assert!(sector == [0xee; 512]);
        }
        file.sync().unwrap();
        prop_assert_eq!(disk.crash(seed).contents(path("/f")), disk.contents(path("/f")));
    }
}
