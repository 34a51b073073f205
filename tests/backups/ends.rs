//! The command as a process that is ended, or that is told what cannot be: nothing is left behind, and what is said
//! is the same wherever it is found out.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use palyra_ledger::{Config, Ledger, PutOptions, SecretBytes};
use rustix::process::{Pid, Signal, kill_process};

use super::process::Place;

/// A home whose backup takes a while, and its words.
fn large() -> (Place, Vec<u8>) {
    let place = Place::new();
    let words = place.words();
    let ledger = Ledger::open(Config::new(place.path("home"))).unwrap();
    let vault = ledger.vault("global".parse().unwrap());
    let value = SecretBytes::from(vec![b'x'; 65_000].as_slice());
    for number in 0..400 {
        vault.put(&format!("k{number}").parse().unwrap(), &value, PutOptions::new()).unwrap();
    }
    ledger.close().unwrap();
    (place, words)
}

/// What stands beside the home and is neither a home nor a backup.
fn leftovers(place: &Place) -> Vec<PathBuf> {
    let names = place.entries().into_iter().filter(|name| name.starts_with(".palyra-"));
    names.map(|name| place.path(&name)).collect()
}

/// Whether a process has a file open that no folder names.
fn has_unnamed(child: &Child) -> bool {
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().filter_map(Result::ok);
    let mut targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.any(|target| target.to_string_lossy().ends_with("(deleted)") && !target.starts_with("/memfd:palyra-ledger"))
}

/// Waits until something is there; says whether that came before the command was through.
fn begun(child: &mut Child, is_there: &dyn Fn(&Child) -> bool) -> bool {
    while !is_there(child) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

fn send(child: &Child, signal: Signal) {
    // It may be through meanwhile.
    let _ = kill_process(Pid::from_child(child), signal);
}

fn restoring(place: &Place, home: &str, words: &[u8]) -> Child {
    let mut command = place.command(home, &["--recovery-stdin", "backup", "restore", "b.plb"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(words).unwrap();
    child
}

#[test]
fn a_signal_ends_a_backup_and_leaves_nothing() {
    let (place, _) = large();
    let file = place.path("out.plb");
    for (served, force) in [(false, true), (false, false), (true, true), (true, false)] {
        let daemon = served.then(|| place.serve());
        let mut stopped = false;
        for _ in 0..40 {
            let _ = std::fs::remove_file(&file);
            let mut words = vec!["backup", "create", "out.plb"];
            if force {
                std::fs::write(&file, b"old").unwrap();
                words.push("--force");
            }
            let mut child = place.command("home", &words).spawn().unwrap();
            let is_there = |child: &Child| if force { !leftovers(&place).is_empty() } else { has_unnamed(child) };
            if begun(&mut child, &is_there) {
                send(&child, Signal::TERM);
            }
            let code = child.wait().unwrap().code();
            assert_eq!(leftovers(&place), Vec::<PathBuf>::new(), "served {served}, force {force}");
            match code {
                Some(3) if force => assert_eq!(std::fs::read(&file).unwrap(), b"old"),
                Some(3) => assert!(!file.exists()),
                other => assert_eq!(other, Some(0), "served {served}, force {force}"),
            }
            stopped = code == Some(3);
            if stopped {
                break;
            }
        }
        assert!(stopped, "served {served}, force {force}: no signal came in time");
        if let Some(mut daemon) = daemon {
            assert!(place.run("home", &["log", "verify"]).status.success(), "the daemon goes on");
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }
}

#[test]
fn a_signal_ends_a_restore_and_leaves_nothing() {
    let (place, words) = large();
    place.ok("home", &["backup", "create", "b.plb"]);
    for attempt in 0..40 {
        let home = format!("new{attempt}");
        let mut child = restoring(&place, &home, &words);
        if begun(&mut child, &|_| !leftovers(&place).is_empty()) {
            send(&child, Signal::TERM);
        }
        let code = child.wait().unwrap().code();
        assert_eq!(leftovers(&place), Vec::<PathBuf>::new());
        if code == Some(3) {
            assert!(!place.path(&home).exists());
            return;
        }
        assert_eq!(code, Some(0));
    }
    panic!("no signal came in time");
}

#[test]
fn what_a_killed_restore_leaves_is_named_and_goes_with_the_next_one() {
    let (place, words) = large();
    place.ok("home", &["backup", "create", "b.plb"]);
    let with_keys = |place: &Place| leftovers(place).iter().any(|path| path.join("keys").is_dir());
    let mut child = restoring(&place, "one", &words);
    assert!(begun(&mut child, &|_| with_keys(&place)), "it was through at once");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(leftovers(&place).len(), 1);
    // A name of one part: its parent is the present folder.
    let doctor = || {
        let output = place.run("home", &["--home", "home", "doctor"]);
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let told = doctor();
    assert!(told.contains("may hold the root key") && told.contains(".palyra-restore-"), "{told}");
    let left = leftovers(&place);
    let mut child = restoring(&place, "two", &words);
    assert!(begun(&mut child, &|_| with_keys(&place) && leftovers(&place) != left), "it was through at once");
    send(&child, Signal::STOP);
    assert!(!left[0].exists(), "the next restore takes it away");
    let told = doctor();
    assert!(!told.contains(".palyra-restore-"), "somebody fills that one: {told}");
    child.kill().unwrap();
    child.wait().unwrap();
    let done = place.with_input("three", &["--recovery-stdin", "backup", "restore", "b.plb"], &words);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(leftovers(&place), Vec::<PathBuf>::new());
}

#[test]
fn a_daemon_records_a_backup_once_it_has_its_name() {
    let (place, _) = large();
    let mut daemon = place.serve();
    let (mut named, mut refused) = (0, 0);
    for attempt in 0..40 {
        let name = format!("f{attempt}.plb");
        let mut child = place.command("home", &["backup", "create", &name]).spawn().unwrap();
        if begun(&mut child, &has_unnamed) {
            std::fs::write(place.path(&name), b"somebody else's").unwrap();
        }
        if child.wait().unwrap().success() {
            named += 1;
        } else {
            refused += 1;
            assert_eq!(std::fs::read(place.path(&name)).unwrap(), b"somebody else's");
            break;
        }
    }
    assert_eq!(refused, 1);
    let told = place.ok("home", &["log", "show"]);
    assert_eq!(told.matches("made a full backup").count(), named, "{told}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
#[allow(clippy::print_stderr)]
fn a_home_that_is_a_mount_point_is_refused_at_once() {
    let place = Place::new();
    let words = place.words();
    place.ok("home", &["backup", "create", "b.plb"]);
    std::fs::write(place.path("words"), words).unwrap();
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_palyra-ledger")]);
        command.current_dir(place.path("")).stdin(Stdio::null()).output()
    };
    let mounted = "mkdir -p mnt bound && mount -t tmpfs none mnt && mount --bind bound bound";
    if !unshared(mounted).is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this machine allows no mount namespaces");
        return;
    }
    let script = format!(
        "{mounted} || exit 99\n\
         for home in mnt bound; do\n\
         $0 --home $home init; echo init $?\n\
         $0 --home $home --recovery-stdin backup restore b.plb <words; echo restore $?\n\
         done\n\
         $0 --home mnt/ledger --recovery-stdin backup restore b.plb <words"
    );
    let output = unshared(&script).unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{errors}");
    assert_eq!((told.matches("init 2\n").count(), told.matches("restore 2\n").count()), (2, 2), "{told}{errors}");
    assert_eq!(errors.matches("is a mount point").count(), 4, "{errors}");
    assert!(errors.contains("mnt/ledger"), "{errors}");
}

#[test]
fn the_same_fault_has_the_same_code_wherever_it_is_found() {
    let place = Place::new();
    let words = place.words();
    place.set("global/a", &vec![b'x'; 40_000]);
    place.ok("home", &["backup", "create", "b.plb"]);
    let whole = std::fs::read(place.path("b.plb")).unwrap();
    let code = |verb: &str, name: &str| {
        let output = place.with_input("new", &["--recovery-stdin", "backup", verb, name], &words);
        assert!(!place.path("new").exists());
        output.status.code().unwrap()
    };
    for len in [0, 10, 300, whole.len() / 2, whole.len() - 100, whole.len() - 1] {
        std::fs::write(place.path("cut.plb"), &whole[..len]).unwrap();
        let verified = code("verify", "cut.plb");
        assert_eq!(verified, code("restore", "cut.plb"), "length {len}");
        assert!(matches!(verified, 15 | 16), "length {len}: {verified}");
    }
    std::fs::create_dir(place.path("folder")).unwrap();
    assert_eq!(code("verify", "folder"), code("restore", "folder"));
    assert_ne!(code("verify", "folder"), 15, "a disk that does not answer is no damage");

    let refused = |words: &[&str]| {
        let output = place.run("home", &[&["backup", "create"], words].concat());
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(refused(&["c.plb", "--recipient", "age1bad"]).0, 2);
    let (inside, told) = refused(&["home/c.plb"]);
    assert!(inside == 2 && told.contains("inside the home"), "{told}");
    assert_eq!(refused(&["home/journal/../c.plb"]).0, 2);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(place.path("flipped.plb"), &flipped).unwrap();
    assert_eq!(refused(&["c.plb", "--after", "flipped.plb"]).0, 15);
    place.ok("other", &["init"]);
    place.ok("other", &["backup", "create", "other.plb", "--with-key-file"]);
    let (other, told) = refused(&["c.plb", "--after", "other.plb"]);
    assert!(other == 12 && told.contains("of ledger"), "{told}");
    assert!(!place.path("c.plb").exists() && !place.path("home/c.plb").exists());
    let told = place.ok("home", &["backup", "verify", "b.plb"]);
    assert!(told.contains("only with a copy of its key file"), "{told}");
}
