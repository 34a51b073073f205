//! Files: only those below a trusted folder, only plain ones, and never another one than was judged.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use palyra_ledger::{AuditReads, Ledger, ResolveSettings};

use super::{CANARY, Folder, file_ref, ledger_with, mode, reference, resolver, text, why};

fn trusting(dirs: &[PathBuf], links: bool) -> Ledger {
    let rules = ResolveSettings { file_dirs: dirs.to_vec(), file_symlinks: links, ..ResolveSettings::default() };
    ledger_with(AuditReads::Batched, rules)
}

#[test]
fn a_private_file_below_a_trusted_folder_is_read_as_it_is() {
    let dir = Folder::new();
    dir.folder("t/deep");
    let path = dir.file("t/deep/key", "two lines\n\n", 0o600);
    let ledger = trusting(&[dir.path("t")], false);
    let resolution = resolver(&ledger).resolve(&file_ref(&path)).unwrap();
    assert_eq!(text(&resolution).as_deref(), Some("two lines\n\n"), "its newlines are its own");
    assert_eq!((resolution.bytes, resolution.required), (Some(11), true));
    mode(&path, 0o400);
    assert!(resolver(&ledger).resolve(&file_ref(&path)).unwrap().value.is_some());
}

#[test]
fn what_is_no_private_plain_file_below_a_trusted_folder_is_refused() {
    let dir = Folder::new();
    let t = dir.folder("t");
    let outside = dir.file("outside", CANARY, 0o600);
    for (bits, name) in [(0o640, "group"), (0o604, "others"), (0o620, "written"), (0o602, "world")] {
        dir.file(&format!("t/{name}"), CANARY, bits);
    }
    dir.folder("t/dir");
    let loose = dir.folder("t/loose");
    dir.file("t/loose/key", CANARY, 0o600);
    mode(&loose, 0o770);
    symlink(&outside, t.join("link")).unwrap();
    symlink(&t, dir.path("other")).unwrap();
    symlink(t.join("loop"), t.join("loop")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        t.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(t.join("socket")).unwrap();
    let sparse = File::create(t.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    mode(&t.join("sparse"), 0o600);
    let ledger = trusting(std::slice::from_ref(&t), false);
    let cases = [
        (outside.clone(), "file_outside"),
        (t.clone(), "file_outside"),
        (dir.path("other").join("group"), "file_outside"),
        (dir.path("t2/key"), "file_outside"),
        (t.join("none"), "file_missing"),
        (t.join("none/none"), "file_missing"),
        (t.join("group/below"), "file_kind"),
        (t.join("group"), "file_mode"),
        (t.join("others"), "file_mode"),
        (t.join("written"), "file_mode"),
        (t.join("world"), "file_mode"),
        (t.join("loose/key"), "file_mode"),
        (t.join("dir"), "file_kind"),
        (t.join("fifo"), "file_kind"),
        (t.join("socket"), "file_kind"),
        (t.join("link"), "file_link"),
        (t.join("loop"), "file_link"),
        (t.join("sparse"), "too_large"),
    ];
    for (path, reason) in &cases {
        let resolution = resolver(&ledger).resolve(&file_ref(path)).unwrap();
        assert_eq!((why(&resolution), resolution.value.is_none()), (*reason, true), "{}", path.display());
        let (_, explained) = resolver(&ledger).explain(&file_ref(path)).unwrap();
        assert_eq!(explained.unwrap().code.name(), *reason, "{} explained", path.display());
    }
    let devices = trusting(&[PathBuf::from("/dev")], false);
    for device in ["/dev/zero", "/dev/null", "/dev/tty"] {
        let resolution = resolver(&devices).resolve(&reference(&format!("file://{device}"))).unwrap();
        assert!(matches!(why(&resolution), "file_kind" | "file_mode"), "{device}: {}", why(&resolution));
    }
    mode(&t, 0o777);
    assert_eq!(why(&resolver(&ledger).resolve(&file_ref(&t.join("none"))).unwrap()), "file_mode");
}

#[test]
fn a_folder_that_others_may_put_another_ones_name_on_is_not_trusted() {
    let dir = Folder::new();
    let above = dir.folder("above");
    let t = dir.folder("above/t");
    let path = dir.file("above/t/key", CANARY, 0o600);
    for links in [false, true] {
        let ledger = trusting(std::slice::from_ref(&t), links);
        let get = || resolver(&ledger).resolve(&file_ref(&path)).unwrap();
        assert!(get().value.is_some());
        for (bits, reason) in [(0o777, "file_mode"), (0o770, "file_mode"), (0o1777, ""), (0o755, "")] {
            mode(&above, bits);
            assert_eq!(why(&get()), reason, "{bits:o}");
        }
        let (_, explained) = resolver(&ledger).explain(&file_ref(&path)).unwrap();
        assert!(explained.is_none());
    }
    // A link to the trusted folder, where others may put another one.
    let loose = dir.folder("loose");
    symlink(&t, loose.join("t")).unwrap();
    let ledger = trusting(&[loose.join("t")], false);
    let named = file_ref(&loose.join("t/key"));
    assert!(resolver(&ledger).resolve(&named).unwrap().value.is_some());
    mode(&loose, 0o777);
    assert_eq!(why(&resolver(&ledger).resolve(&named).unwrap()), "file_mode");
    let (checks, _) = resolver(&ledger).explain(&named).unwrap();
    assert!(checks.last().is_some_and(|check| !check.ok && check.what.contains("/loose")), "{checks:?}");
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = Folder::new();
    let t = dir.folder("t");
    let path = dir.file("t/key", CANARY, 0o600);
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    let ledger = trusting(std::slice::from_ref(&t), false);
    assert_eq!(why(&resolver(&ledger).resolve(&file_ref(&path)).unwrap()), "file_owner");
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    std::os::unix::fs::chown(&t, Some(12_345), None).unwrap();
    assert_eq!(why(&resolver(&ledger).resolve(&file_ref(&path)).unwrap()), "file_owner");
}

#[test]
fn links_are_followed_where_the_rules_say_so_and_never_out_of_the_trusted_folders() {
    let dir = Folder::new();
    let (t, u) = (dir.folder("t"), dir.folder("u"));
    dir.folder("t/..data-1");
    dir.file("t/..data-1/key", "mounted", 0o600);
    dir.file("u/key", "other", 0o600);
    let outside = dir.file("outside", CANARY, 0o600);
    symlink("..data-1", t.join("..data")).unwrap();
    symlink("..data/key", t.join("key")).unwrap();
    symlink(u.join("key"), t.join("across")).unwrap();
    symlink(&outside, t.join("out")).unwrap();
    symlink("../outside", t.join("climbing")).unwrap();
    let ledger = trusting(&[t.clone(), u], true);
    let give = |name: &str| resolver(&ledger).resolve(&file_ref(&t.join(name))).unwrap();
    assert_eq!(text(&give("key")).as_deref(), Some("mounted"));
    assert_eq!(text(&give("across")).as_deref(), Some("other"));
    assert_eq!(why(&give("out")), "file_outside");
    assert_eq!(why(&give("climbing")), "file_outside");
}

/// Whatever is renamed and linked beside it: the value is the one inside or none, and nothing blocks.
#[test]
fn no_race_gives_a_value_from_outside() {
    for links in [false, true] {
        let dir = Folder::new();
        let t = dir.folder("t");
        dir.folder("t/sub");
        dir.folder("evil");
        dir.file("t/sub/key", "inside", 0o600);
        dir.file("evil/key", CANARY, 0o600);
        dir.file("evil/plain", "inside", 0o600);
        let (sub, aside, evil) = (t.join("sub"), t.join("aside"), dir.path("evil"));
        let stop = Arc::new(AtomicBool::new(false));
        let swap = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut rounds = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    // The folder becomes a link to the outside and a folder again.
                    std::fs::rename(&sub, &aside).unwrap();
                    symlink(&evil, &sub).unwrap();
                    std::fs::remove_file(&sub).unwrap();
                    std::fs::rename(&aside, &sub).unwrap();
                    // The file becomes a link, a pipe and a file again.
                    let (key, new) = (sub.join("key"), sub.join("new"));
                    symlink(evil.join("key"), &new).unwrap();
                    std::fs::rename(&new, &key).unwrap();
                    let fifo = rustix::fs::FileType::Fifo;
                    let mode = rustix::fs::Mode::from_raw_mode(0o600);
                    rustix::fs::mknodat(rustix::fs::CWD, &new, fifo, mode, 0).unwrap();
                    std::fs::rename(&new, &key).unwrap();
                    std::fs::copy(evil.join("plain"), &new).unwrap();
                    std::fs::rename(&new, &key).unwrap();
                    rounds += 1;
                    // Now and then everything is as it should be for a moment.
                    std::thread::sleep(std::time::Duration::from_micros(100));
                }
                rounds
            })
        };
        let ledger = trusting(std::slice::from_ref(&t), links);
        let (resolver, wanted) = (resolver(&ledger), file_ref(&t.join("sub/key")));
        let (mut given, mut refused) = (0, 0);
        let begun = std::time::Instant::now();
        while (given < 200 || refused < 2000) && begun.elapsed() < std::time::Duration::from_mins(1) {
            let resolution = resolver.resolve(&wanted).unwrap();
            match text(&resolution).as_deref() {
                Some("inside") => given += 1,
                // A copy that is not whole yet is a file inside all the same.
                Some("") | None => refused += 1,
                Some(other) => panic!("{other:?} came from outside"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        let rounds = swap.join().unwrap();
        assert!(rounds > 0 && given > 0 && refused > 0, "{rounds} rounds, {given} values, {refused} refusals");
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_stays_within_the_bound() {
    let dir = Folder::new();
    let t = dir.folder("t");
    let path = dir.file("t/key", "", 0o600);
    let stop = Arc::new(AtomicBool::new(false));
    let grow = {
        let (stop, path) = (Arc::clone(&stop), path.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let mut file = File::create(&path).unwrap();
                for _ in 0..64 {
                    file.write_all(&[b'x'; 64]).unwrap();
                }
            }
        })
    };
    let ledger = trusting(std::slice::from_ref(&t), false);
    let mut wanted = file_ref(&path);
    wanted.max_bytes = Some(1024);
    for _ in 0..2000 {
        let resolution = resolver(&ledger).resolve(&wanted).unwrap();
        match &resolution.value {
            Some(value) => assert!(value.len() <= 1024),
            None => assert_eq!(why(&resolution), "too_large"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    grow.join().unwrap();
}
