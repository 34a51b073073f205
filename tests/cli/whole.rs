//! The tour, and the home that is used when none is named.

use crate::Home;

#[test]
fn the_tour_holds_and_leaves_nothing() {
    let home = Home::empty();
    let told = home.ok(&["tour"]);
    assert!(told.contains("checks hold") && !told.contains("FAIL") && !told.contains('\u{1b}'), "{told}");
    assert_eq!(std::fs::read_dir(home.dir.path()).unwrap().count(), 0, "nothing is left behind");
    let report = home.json(&["tour", "--keep"]);
    assert_eq!(report["ok"], true);
    assert_eq!(report["failed"], 0);
    assert!(report["checks"].as_u64().unwrap() > 25);
    let kept = report["kept"].as_str().unwrap();
    assert!(home.ok(&["--home", kept, "log", "verify", "--state"]).contains("verified"));
}

#[test]
fn the_home_is_in_the_state_folder_by_default() {
    let home = Home::empty();
    let at = |name: &str, path: &str| {
        let mut command = home.command(&["--format", "json", "init"]);
        command.env_remove("PALYRA_LEDGER_HOME").env(name, home.dir.path());
        assert_eq!(command.output().unwrap().status.code(), Some(0));
        assert!(home.dir.path().join(path).join("format").exists());
    };
    at("XDG_STATE_HOME", "palyra-ledger");
    at("HOME", ".local/state/palyra-ledger");
    let nowhere = home.command(&["log", "head"]).env_remove("PALYRA_LEDGER_HOME").output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2));
}
