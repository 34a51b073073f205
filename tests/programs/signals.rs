//! Signals that reach a program through us.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::Signal;

use crate::{Home, Running, state, wait};

fn attended(home: &Home, script: &str) -> Running {
    Running::start(&mut home.command(&["run", "--env", "A=global/a", "--mask", "--", "sh", "-c", script]))
}

const LOOP: &str = "while :; do sleep 0.02; done";

#[test]
fn signals_reach_the_program_and_its_status_comes_back() {
    let home = Home::new();
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
    ] {
        let mut running = attended(&home, &format!("trap 'echo got {name}; exit 9' {name}; echo ready; {LOOP}"));
        let mut lines = running.lines();
        assert_eq!(lines.next().unwrap(), "ready");
        running.signal(signal);
        assert_eq!(lines.next().unwrap(), format!("got {name}"));
        assert_eq!(running.status().code(), Some(9), "{name}");
    }
    let mut running = attended(&home, &format!("echo ready; {LOOP}"));
    assert_eq!(running.lines().next().unwrap(), "ready");
    running.signal(Signal::TERM);
    assert_eq!(running.status().code(), Some(143), "by the signal");
}

#[test]
fn a_program_that_ignores_a_signal_goes_on() {
    let home = Home::new();
    let mut running = attended(&home, "trap '' TERM; trap 'exit 4' USR1; echo ready $$; while :; do sleep 0.02; done");
    let mut lines = running.lines();
    assert!(lines.next().unwrap().starts_with("ready"));
    running.signal(Signal::TERM);
    running.signal(Signal::TERM);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(running.0.try_wait().unwrap().is_none());
    running.signal(Signal::USR1);
    assert_eq!(running.status().code(), Some(4));
}

#[test]
fn stopping_us_stops_the_program_and_it_goes_on_with_us() {
    let home = Home::new();
    let mut running = attended(&home, "echo $$; read line; exit 5");
    let program: u32 = running.lines().next().unwrap().parse().unwrap();
    let ours = running.0.id();
    running.signal(Signal::TSTP);
    wait(|| state(program) == Some('T') && state(ours) == Some('T'));
    running.signal(Signal::CONT);
    wait(|| state(program) != Some('T') && state(ours) != Some('T'));
    running.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(running.status().code(), Some(5));
}

#[test]
fn what_is_ignored_stays_ignored() {
    let home = Home::new();
    for mode in ["", "--mask"] {
        let mut command = Command::new("sh");
        home.prepare(&mut command);
        let ours = env!("CARGO_BIN_EXE_palyra-ledger");
        let script = format!("trap '' HUP; exec {ours} run --env A=global/a {mode} -- grep SigIgn /proc/self/status");
        command.args(["-c", &script]).process_group(0);
        let shown = String::from_utf8(crate::finish(command, b"").stdout).unwrap();
        let mask = u64::from_str_radix(shown.trim().rsplit('\t').next().unwrap(), 16).unwrap();
        assert_eq!(mask & 1, 1, "{mode}: {shown}");
    }
}

/// As in a container: whoever leads our session is outside, and its number is 0 here.
#[test]
#[allow(clippy::print_stderr)]
fn a_session_led_from_outside_of_our_namespace_is_no_fault() {
    let home = Home::new();
    let mut probe = Command::new("unshare");
    home.prepare(&mut probe);
    if !probe.args(["-rpf", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this machine allows no namespaces of processes");
        return;
    }
    let mut command = Command::new("unshare");
    home.prepare(&mut command);
    let ours = env!("CARGO_BIN_EXE_palyra-ledger");
    command.args(["-rpf", ours, "run", "--env", "A=global/a", "--mask", "--", "sh", "-c", "exit 3"]);
    let output = crate::finish(command, b"");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}
