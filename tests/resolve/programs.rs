//! Programs: whatever they do, whoever asked is answered in time, and nothing of them is left.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use palyra_ledger::resolve::Resolution;
use palyra_ledger::{AuditReads, ResolveSettings, SecretRef, SecretSource};

use super::{CANARY, Folder, ledger_with, mode, reference, resolver, text, wait, why};

/// Far longer than anything here may take, and far shorter than what the programs would.
const BOUND: Duration = Duration::from_mins(1);

struct Program {
    dir: Folder,
    path: PathBuf,
}

impl Program {
    fn new(body: &str) -> Self {
        let dir = Folder::new();
        let path = dir.file("program", &format!("#!/bin/sh\n{body}\n"), 0o700);
        Self { dir, path }
    }

    fn reference(&self, args: &[&str]) -> SecretRef {
        let program = self.path.to_str().unwrap().parse().unwrap();
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        SecretSource::Exec { program, args, field: None }.into()
    }

    fn rules(&self) -> ResolveSettings {
        ResolveSettings { exec_allow: vec![self.path.clone()], ..ResolveSettings::default() }
    }

    fn run_with(&self, rules: ResolveSettings, timeout: u32, args: &[&str]) -> Resolution {
        let ledger = ledger_with(AuditReads::Batched, rules);
        let reference = SecretRef { timeout_ms: Some(timeout), ..self.reference(args) };
        let begun = Instant::now();
        let resolution = resolver(&ledger).resolve(&reference).unwrap();
        assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
        let said = format!("{resolution:?} {}", resolution.reason.as_ref().map_or(String::new(), ToString::to_string));
        assert!(!said.contains(CANARY), "{said}");
        resolution
    }

    fn run(&self, timeout: u32, args: &[&str]) -> Resolution {
        self.run_with(self.rules(), timeout, args)
    }

    /// Whether every process whose number stands in the file `pids` is gone; an orphan that nobody reaps counts.
    fn left_nothing(&self) -> bool {
        let pids = std::fs::read_to_string(self.dir.path("pids")).unwrap();
        assert!(!pids.trim().is_empty());
        let gone = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
        };
        wait(Duration::from_secs(20), || pids.split_whitespace().all(gone))
    }

    fn pids(&self) -> String {
        self.dir.path("pids").to_str().unwrap().to_owned()
    }
}

#[test]
fn a_program_gives_what_it_prints_without_its_last_newline() {
    let program = Program::new("printf 'a b\\n%s\\n\\n' \"$1\"");
    assert_eq!(text(&program.run(10_000, &["$(id); *"])).as_deref(), Some("a b\n$(id); *\n"));
    assert_eq!(text(&Program::new("cat; printf x").run(10_000, &[])).as_deref(), Some("x"), "its input is empty");
}

#[test]
fn a_program_sees_no_environment_but_what_it_is_to_inherit() {
    let printed = |inherit: &[&str]| {
        let rules = ResolveSettings {
            exec_allow: vec![PathBuf::from("/usr/bin/env")],
            exec_inherit: inherit.iter().map(|&name| name.to_owned()).collect(),
            ..ResolveSettings::default()
        };
        let ledger = ledger_with(AuditReads::Batched, rules);
        text(&resolver(&ledger).resolve(&reference("exec:///usr/bin/env")).unwrap()).unwrap()
    };
    assert_eq!(printed(&[]), "PATH=/usr/bin:/bin");
    let inherited = printed(&["CARGO_MANIFEST_DIR", "NOT_SET_ANYWHERE"]);
    assert_eq!(inherited, format!("CARGO_MANIFEST_DIR={}\nPATH=/usr/bin:/bin", env!("CARGO_MANIFEST_DIR")));
    assert_eq!(text(&Program::new("pwd").run(10_000, &[])).as_deref(), Some("/"));
}

#[test]
fn a_program_that_fails_gives_its_status_and_nothing_it_wrote() {
    let program = Program::new(&format!("printf {CANARY}; printf {CANARY} >&2; exit 3"));
    let resolution = program.run(10_000, &[]);
    assert_eq!((why(&resolution), resolution.value.is_none()), ("exec_status", true));
    let said = resolution.reason.unwrap().to_string();
    assert!(said.contains("exit status 3") && said.contains(&format!("{} bytes", CANARY.len())), "{said}");
    let killed = Program::new("kill -9 $$").run(10_000, &[]);
    assert!(killed.reason.unwrap().to_string().contains("signal 9"));
}

#[test]
fn a_program_that_takes_too_long_is_killed_with_its_children() {
    let pids = "echo $$ >> \"$1\"; sleep 300 & echo $! >> \"$1\"";
    for body in [
        format!("{pids}; sleep 300"),
        format!("trap '' TERM; {pids}; while :; do sleep 0.05; done"),
        // It closes its output and lives on.
        format!("{pids}; exec >&- 2>&-; sleep 300"),
        format!("{pids}; printf {CANARY}; sleep 300"),
    ] {
        let program = Program::new(&body);
        let resolution = program.run(700, &[&program.pids()]);
        assert_eq!((why(&resolution), resolution.value.is_none()), ("exec_timeout", true), "{body}");
        assert!(program.left_nothing(), "{body}");
    }
}

#[test]
fn a_grandchild_that_keeps_the_pipe_holds_nobody_up() {
    for body in ["sleep 300 & echo $! >> \"$1\"; echo value", "(sleep 300; echo late) & echo $! >> \"$1\"; echo value"]
    {
        let program = Program::new(body);
        assert_eq!(text(&program.run(30_000, &[&program.pids()])).as_deref(), Some("value"), "{body}");
        assert!(program.left_nothing(), "{body}");
    }
    // One that left the group lives on, and holds nobody up either.
    let program = Program::new("setsid sleep 20 & echo value");
    let begun = Instant::now();
    assert_eq!(text(&program.run(15_000, &[])).as_deref(), Some("value"));
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_flood_is_bounded_on_both_outputs() {
    let program = Program::new("echo $$ >> \"$1\"; exec cat /dev/zero");
    let resolution = program.run(30_000, &[&program.pids()]);
    assert_eq!(why(&resolution), "too_large");
    assert!(program.left_nothing());
    let program = Program::new("head -c 3000000 /dev/zero >&2; echo value");
    assert_eq!(text(&program.run(30_000, &[])).as_deref(), Some("value"));
    let program = Program::new("cat /dev/zero >&2");
    assert_eq!(why(&program.run(700, &[])), "exec_timeout");
    let exact = Program::new("head -c 65536 /dev/zero");
    assert_eq!(exact.run(30_000, &[]).bytes, Some(65_536));
}

#[test]
fn what_the_rules_do_not_name_or_others_may_change_is_not_run() {
    let program = Program::new("echo ran > \"$1\"");
    let mark = program.dir.path("ran");
    let args = [mark.to_str().unwrap()];
    let refused = |rules: ResolveSettings| why(&program.run_with(rules, 10_000, &args));
    assert_eq!(refused(ResolveSettings::default()), "exec_not_allowed");
    let above = ResolveSettings { exec_allow: vec![program.dir.path("")], ..ResolveSettings::default() };
    assert_eq!(refused(above), "exec_not_allowed");
    for (bits, reason) in [(0o720, "exec_mode"), (0o702, "exec_mode"), (0o600, "exec_kind"), (0o4700, "exec_kind")] {
        mode(&program.path, bits);
        assert_eq!(refused(program.rules()), reason, "{bits:o}");
    }
    mode(&program.path, 0o700);
    mode(&program.dir.path(""), 0o777);
    assert_eq!(refused(program.rules()), "exec_mode");
    mode(&program.dir.path(""), 0o700);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&program.path, Some(12_345), None).unwrap();
        assert_eq!(refused(program.rules()), "exec_owner");
        std::os::unix::fs::chown(&program.path, Some(0), None).unwrap();
    }
    assert!(!mark.exists(), "none of these ran");
    assert_eq!(refused(program.rules()), "");
    assert!(mark.exists());
    std::fs::remove_file(&program.path).unwrap();
    assert_eq!(refused(program.rules()), "exec_failed");
    std::fs::create_dir(&program.path).unwrap();
    assert_eq!(refused(program.rules()), "exec_kind");
}

#[test]
fn a_program_is_told_the_name_that_was_asked_for() {
    let dir = Folder::new();
    let link = dir.path("link");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    let rules = ResolveSettings { exec_allow: vec![link.clone()], ..ResolveSettings::default() };
    let ledger = ledger_with(AuditReads::Batched, rules);
    let arg0 = |path: &Path| reference(&format!("exec://{}?arg=-c&arg=echo%20$0", path.display()));
    let resolution = resolver(&ledger).resolve(&arg0(&link)).unwrap();
    assert_eq!(text(&resolution).as_deref(), link.to_str());
}
