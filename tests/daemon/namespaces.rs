//! The story over a link between two network namespaces: two stacks, two addresses, and a link that fails.

use std::process::{Command, Stdio};

#[test]
#[allow(clippy::print_stderr)]
fn the_story_over_a_link_that_goes_down() {
    let can = |program: &str, words: &[&str]| {
        let run = Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    if !can("unshare", &["-rnm", "ip", "link", "set", "lo", "up"]) || !can("nsenter", &["--version"]) {
        eprintln!("SKIPPED: this machine allows no network namespaces, or has no ip and nsenter");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/namespaces.sh");
    let output = Command::new("unshare")
        .args(["-rnm", "bash", script, env!("CARGO_BIN_EXE_palyra-ledger")])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", said(&output.stdout), said(&output.stderr));
}
