//! The same beside a running daemon: it has the ledger, the programs and files are ours.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::{CANARY, Home, Running};

#[test]
fn a_daemon_gives_the_values_and_starts_no_program() {
    let home = Home::new();
    let mut command = home.command(&["--format", "json", "serve", "--listen", "127.0.0.1:0"]);
    let mut daemon = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(daemon.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let script = "echo $A; cat $F; cat $M; echo $PPID $$";
    let given = ["--env", "A=global/a", "--fd", "F=global/a", "--mount", "M=global/a"];
    let shown = home.ok(&[&["run"][..], &given, &["--", "sh", "-c", script]].concat());
    assert!(shown.starts_with(&format!("{CANARY}\n{CANARY}{CANARY}")), "{shown}");
    assert!(!shown.contains(&format!("\n{} ", daemon.0.id())), "the program is not the daemon's: {shown}");
    home.code(&["run", "--env", "A=global/none", "--", "true"], 10);
    home.file("template", b"{{palyra://global/a}}");
    home.ok(&["inject", "-i", "template", "-o", "out"]);
    home.ok(&["secrets", "get", "global/a", "--out-file", "alone"]);
    for name in ["out", "alone"] {
        assert_eq!(std::fs::read_to_string(home.path(name)).unwrap(), CANARY);
        std::fs::remove_file(home.path(name)).unwrap();
    }
    crate::wait(|| home.ok(&["log", "show"]).contains("run sh"));
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.status().success());
    assert!(home.leaks().is_empty());
}
