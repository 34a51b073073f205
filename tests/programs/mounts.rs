//! Files that only look like files.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use rustix::process::Signal;

use crate::{CANARY, Home, Running, wait};

fn words<'a>(more: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run", "--mount", "M=global/a"][..], more, &["--", "sh", "-c", script]].concat()
}

#[test]
fn a_mounted_file_gives_the_value_and_is_gone_afterwards() {
    let home = Home::new();
    let shown = home.ok(&words(&[], "cat $M; cat $M; cat < $M; stat -c '%F %a' $M $(dirname $M)"));
    assert_eq!(shown, format!("{}fifo 600\ndirectory 700\n", CANARY.repeat(3)));
    assert!(home.names("run").is_empty());
    let shown = home.ok(&words(&["--max-reads", "2"], "cat $M; cat $M; cat $M 2>/dev/null; test -e $M || echo gone"));
    assert_eq!(shown, format!("{}gone\n", CANARY.repeat(2)));
    assert!(home.names("run").is_empty());
    assert!(home.leaks().is_empty());
}

#[test]
fn many_readers_at_once_get_it_no_more_often_than_allowed_and_none_is_left_waiting() {
    let home = Home::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (timeout 30 cat $M > out.$i 2>/dev/null; echo $? > code.$i) & done; wait";
    for _ in 0..10 {
        home.ok(&words(&["--max-reads", "3"], script));
        let mut whole = 0;
        for number in 1..=12 {
            let out = std::fs::read(home.path(&format!("out.{number}"))).unwrap();
            assert!(out.is_empty() || out == CANARY.as_bytes(), "whole or nothing");
            whole += usize::from(!out.is_empty());
            let code = std::fs::read_to_string(home.path(&format!("code.{number}"))).unwrap();
            assert_ne!(code.trim(), "124", "no reader waits for ever");
        }
        assert!((1..=3).contains(&whole), "{whole}");
    }
}

#[test]
fn a_reader_that_takes_nothing_stops_nobody() {
    let home = Home::new();
    std::fs::write(
        home.path("home/config.toml"),
        "[limits]\nmax_value_bytes = 1000000\n[resolve]\nmax_bytes = 1000000\n",
    )
    .unwrap();
    home.set("global/a", &vec![b'x'; 900_000]);
    let script = "exec 9< $M; cat $M | wc -c; head -c 10 $M > /dev/null; cat $M | wc -c";
    assert_eq!(home.ok(&words(&[], script)), "900000\n900000\n", "and our end does not wait for it");
    assert!(home.names("run").is_empty());
}

#[test]
fn no_ending_of_ours_leaves_a_mount() {
    let home = Home::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
        let mut running = Running::start(&mut home.command(&words(&[], "echo $M; exec sleep 60")));
        let path = std::path::PathBuf::from(running.lines().next().unwrap());
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_fifo() && found.permissions().mode() & 0o777 == 0o600);
        let program = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.0.id())).unwrap();
        running.signal(signal);
        running.status();
        wait(|| home.names("run").is_empty());
        for pid in program.split_whitespace().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
            // After a kill of ours the program is an orphan; the watch has ended by itself.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}
