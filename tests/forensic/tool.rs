//! The program itself: exit codes, levels, determinism, and that it leaves no trace on what it reads.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use palyra_ledger::limits::BODY_MAX;
use palyra_ledger::log::frame::Header;
use serde_json::Value;

struct Scene {
    dir: tempfile::TempDir,
}

const CANARY: &str = "canary-5e1f-value";

impl Scene {
    fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        scene.ledger(&["init"], b"");
        for name in ["one", "two", "three"] {
            scene.ledger(&["secrets", "set", &format!("global/{name}"), "--stdin"], CANARY.as_bytes());
        }
        scene.ledger(&["secrets", "set", "global/long", "--stdin"], &vec![b'x'; 30_000]);
        scene
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn ledger(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env_clear().env("PALYRA_LEDGER_HOME", self.home()).args(words).write_stdin(input);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Runs the tool on the home and expects an exit code.
    #[allow(clippy::unused_self)]
    fn run(&self, words: &[&str], code: i32) -> String {
        let output =
            Command::new(env!("CARGO_BIN_EXE_palyra-forensic")).args(words).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

/// Every command that only reads, on a home.
fn reading(home: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["--format", "json", "inspect", home],
        vec!["inspect", home],
        vec!["--format", "json", "verify", home],
        vec!["verify", home, "--keys"],
        vec!["timeline", home],
        vec!["--format", "csv", "timeline", home, "--keys"],
        vec!["--format", "jsonl", "timeline", home, "--keys"],
        vec!["--format", "ocsf", "export", home, "--keys"],
        vec!["--format", "ecs", "export", home],
        vec!["--format", "json", "stats", home, "--keys"],
        vec!["--format", "json", "show", home, "2", "--keys"],
        vec!["diff", home, home],
    ]
}

/// Every command that writes something, each to a place of its own in a folder.
fn writing(home: &str, to: &Path) -> Vec<Vec<String>> {
    let place = |name: &str| to.join(name).to_str().unwrap().to_owned();
    let commands: [(&[&str], &str); 5] = [
        (&["carve", home], "carved"),
        (&["rebuild", home], "rebuilt"),
        (&["report", home], "page.html"),
        (&["report", home, "--keys"], "named.html"),
        (&["bundle", "create", home, "--select", "0-3"], "events.bundle"),
    ];
    let words = |(words, name): (&[&str], &str)| {
        words.iter().map(|word| (*word).to_owned()).chain(["-o".to_owned(), place(name)]).collect()
    };
    commands.map(words).into()
}

/// The codes that a sound home gives where it has no anchor.
fn is_sound(status: std::process::ExitStatus) -> bool {
    status.code().is_some_and(|code| [0, 17].contains(&code))
}

/// The disk itself refuses what would be written: a mount of the home that is read-only, in a namespace of its own.
#[test]
#[allow(clippy::print_stderr)]
fn every_command_works_on_a_read_only_mount() {
    let scene = Scene::new();
    scene.ledger(&["log", "checkpoint"], b"");
    let home = scene.path("home");
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && ! touch \"$0/journal\" 2>/dev/null";
    let mounted = |script: &str, words: &[String]| {
        Command::new("unshare").args(["-rm", "sh", "-c", script, &home]).args(words).output().unwrap()
    };
    if !mounted(mount, &[]).status.success() {
        eprintln!("SKIPPED: this machine allows no mounts in a namespace of one's own");
        return;
    }
    let mut commands: Vec<Vec<String>> = writing(&home, scene.dir.path());
    commands.extend(
        reading(&home)
            .into_iter()
            .chain([vec!["manifest", &home]])
            .map(|words| words.into_iter().map(str::to_owned).collect()),
    );
    for mut words in commands {
        words.insert(0, env!("CARGO_BIN_EXE_palyra-forensic").to_owned());
        let output = mounted(&format!("{mount} && exec \"$@\""), &words);
        assert!(is_sound(output.status), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn nothing_on_the_evidence_is_opened_for_writing() {
    let scene = Scene::new();
    scene.ledger(&["log", "checkpoint"], b"");
    let home = scene.home();
    let home = home.to_str().unwrap();
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("SKIPPED: this machine has no strace");
        }
        return;
    }
    let written = tempfile::tempdir().unwrap();
    let to = written.path().to_str().unwrap();
    let mut commands: Vec<Vec<String>> = writing(home, written.path());
    commands.extend(
        reading(home)
            .into_iter()
            .chain([vec!["manifest", home]])
            .map(|words| words.into_iter().map(str::to_owned).collect()),
    );
    for words in commands {
        let trace = scene.path("trace");
        let traced = Command::new("strace")
            .args(["-f", "-y", "-qq", "-e", "trace=%file,%desc,ftruncate,fallocate", "-o", &trace])
            .arg(env!("CARGO_BIN_EXE_palyra-forensic"))
            .args(&words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(is_sound(traced), "{words:?}: {traced}");
        let mut opened = 0;
        for line in
            std::fs::read_to_string(&trace).unwrap().lines().filter(|line| line.contains(home) && !line.contains(to))
        {
            let call = line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
            opened += usize::from(call.starts_with("openat"));
            let writes =
                ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"].iter().any(|flag| line.contains(flag));
            let changes = [
                "unlink",
                "rename",
                "utime",
                "futimes",
                "chmod",
                "fchmod",
                "chown",
                "mkdir",
                "link",
                "symlink",
                "mknod",
                "truncate",
                "ftruncate",
                "fallocate",
                "write",
                "pwrite",
                "setxattr",
                "flock",
            ];
            let changing = changes.iter().any(|name| call.starts_with(name));
            assert!(!writes && !changing, "{words:?}: {line}");
        }
        assert!(opened > 5, "{words:?} opened {opened} files of the evidence");
    }
}

#[test]
fn a_home_that_nobody_may_write_is_read_all_the_same_and_stays_as_it_was() {
    let scene = Scene::new();
    let home = scene.home();
    let mut paths = vec![home.clone()];
    let mut all = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o555)).unwrap();
        } else {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
        }
        all.push(path);
    }
    let times = |all: &[PathBuf]| -> Vec<_> {
        all.iter().map(|path| path.metadata().map(|facts| (facts.len(), facts.modified().unwrap())).unwrap()).collect()
    };
    let before = times(&all);
    for words in reading(home.to_str().unwrap()) {
        let code = if words.contains(&"verify") { 17 } else { 0 };
        scene.run(&words, code);
    }
    assert_eq!(times(&all), before);
    for path in all.iter().filter(|path| path.is_dir()) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn the_same_evidence_reads_the_same_anywhere() {
    let scene = Scene::new();
    // A bundle needs one.
    scene.ledger(&["log", "checkpoint"], b"");
    let copy = scene.dir.path().join("elsewhere/deep");
    std::fs::create_dir_all(&copy).unwrap();
    let copied = Command::new("cp").arg("-r").arg(scene.home()).arg(&copy).status().unwrap();
    assert!(copied.success());
    let (home, copy) = (scene.home(), copy.join("home"));
    let run = |words: &[&str], cwd: &Path, variables: [(&str, &str); 4]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-forensic"));
        command.env_clear().envs(variables).current_dir(cwd).args(words).stdin(Stdio::null());
        command.output().unwrap().stdout
    };
    let plain = [("TZ", "UTC"), ("LANG", "C"), ("LC_ALL", "C"), ("COLUMNS", "80")];
    let other = [("TZ", "Pacific/Kiritimati"), ("LANG", "tr_TR.UTF-8"), ("LC_ALL", "ar_EG.UTF-8"), ("COLUMNS", "200")];
    let one = reading(home.to_str().unwrap());
    let two = reading("home");
    for (one, two) in one.iter().zip(&two) {
        let first = run(one, Path::new("/"), plain);
        assert!(!first.is_empty(), "{one:?}");
        assert_eq!(first, run(two, copy.parent().unwrap(), other), "{one:?}");
    }
    // And what is written: pages, bundles, carved events with their report. A rebuilt ledger is a new one.
    let (first, second) = (scene.dir.path().join("first"), scene.dir.path().join("second"));
    for (home, to, cwd, variables) in
        [(home.to_str().unwrap(), &first, Path::new("/"), plain), ("home", &second, copy.parent().unwrap(), other)]
    {
        std::fs::create_dir(to).unwrap();
        for words in writing(home, to).iter().filter(|words| words[0] != "rebuild") {
            run(&words.iter().map(String::as_str).collect::<Vec<_>>(), cwd, variables);
        }
    }
    let (first, second) = (contents(&first), contents(&second));
    assert!(first.len() >= 5, "{:?}", first.keys());
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (path, bytes) in &first {
        assert!(second[path] == *bytes, "{} differs", path.display());
    }
}

/// Every file below a folder, by its path there.
fn contents(dir: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

#[test]
fn no_secret_value_is_ever_printed() {
    let scene = Scene::new();
    let home = scene.home();
    let mut names = 0;
    for words in reading(home.to_str().unwrap()) {
        let code = if words.contains(&"verify") { 17 } else { 0 };
        let text = scene.run(&words, code);
        assert!(!text.contains(CANARY), "{words:?}");
        names += usize::from(text.contains("global/one"));
        // Without keys not even a name is.
        assert!(words.contains(&"--keys") || !text.contains("global"), "{words:?}");
    }
    assert!(names >= 3, "{names}");
}

#[test]
fn carved_events_and_keys_make_a_ledger_that_opens() {
    let scene = Scene::new();
    let (home, carved) = (scene.home(), scene.path("carved"));
    let sled = home.join("sled");
    scene.run(&["carve", sled.to_str().unwrap(), "-o", &carved], 0);
    let report: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&carved).join("report.json")).unwrap()).unwrap();
    let id = report["ledgers"][0]["ledger_id"].as_str().unwrap().to_owned();
    assert_eq!(report["ledgers"][0]["proven_events"], 5);
    let events = format!("{carved}/{id}");
    let (keys, new) = (home.join("keys"), scene.path("new"));
    scene.run(&["rebuild", &events, "--keys-dir", keys.to_str().unwrap(), "-o", &new], 0);
    let ledger = |words: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_palyra-ledger"))
            .env_clear()
            .args(["--home", &new])
            .args(words)
            .output()
            .unwrap()
    };
    let verified = ledger(&["log", "verify", "--state"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert_eq!(ledger(&["secrets", "get", "global/long", "--reveal"]).stdout, vec![b'x'; 30_000]);
    // Nothing is ever overwritten.
    scene.run(&["rebuild", &events, "--keys-dir", keys.to_str().unwrap(), "-o", &new], 12);
    scene.run(&["carve", sled.to_str().unwrap(), "-o", &carved], 12);
}

#[test]
fn carving_what_is_not_whole_does_not_end_as_if_it_were() {
    let scene = Scene::new();
    let journal = scene.home().join("journal");
    let segment = journal.join("00000000000000000000.seg");
    let whole = std::fs::read(&segment).unwrap();
    let starts: Vec<usize> = (0..whole.len() - 4).filter(|at| whole[*at..].starts_with(b"PLFR")).collect();
    let carved = |name: &str, bytes: &[u8]| {
        let path = scene.path(&format!("{name}.img"));
        std::fs::write(&path, bytes).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-forensic"));
        command.args(["carve", &path, "-o", &scene.path(name)]).stdin(Stdio::null());
        let code = command.output().unwrap().status.code();
        let report = std::fs::read(Path::new(&scene.path(name)).join("report.json")).ok();
        (code, report.map(|report| serde_json::from_slice::<Value>(&report).unwrap()))
    };
    assert_eq!(carved("whole", &whole).0, Some(0));
    // One event of the middle is gone; then the first; then none is left.
    let (code, report) = carved("gap", &[&whole[..starts[2]], &whole[starts[3]..]].concat());
    assert_eq!(
        (code, &report.unwrap()["ledgers"][0]["gaps"]),
        (Some(15), &serde_json::json!([{"from": 2, "through": 2}]))
    );
    let (code, report) = carved("first", &whole[starts[1]..]);
    assert_eq!((code, &report.unwrap()["ledgers"][0]["proven_events"]), (Some(15), &serde_json::json!(0)));
    assert_eq!(carved("nothing", b"no event at all").0, Some(10));
    // Headers that each ask for a mebibyte to be hashed: what lies behind them is not searched to its end, and the
    // exit code says so even where everything that was found is in order.
    let mut header = Header::parse(&whole[starts[0]..]).unwrap();
    header.body_len = u32::try_from(BODY_MAX).unwrap();
    let made_up = header.encode().repeat(1_100);
    let (code, report) = carved("flood", &[&made_up[..], &whole, &vec![0; 2 * BODY_MAX]].concat());
    let report = report.unwrap();
    assert_eq!(code, Some(15), "{report}");
    assert!(report["not_hashed"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn backups_and_bundles_are_told_by_their_first_bytes() {
    let scene = Scene::new();
    let (words, backup, bundle) = (scene.path("words"), scene.path("all.backup"), scene.path("two.bundle"));
    scene.ledger(&["keys", "add-slot", "recovery", "--out-file", &words], b"");
    scene.ledger(&["backup", "create", &backup], b"");
    scene.ledger(&["log", "checkpoint"], b"");
    scene.run(&["bundle", "create", scene.home().to_str().unwrap(), "--select", "1-2", "-o", &bundle], 0);
    for (path, what) in [(backup, "backup"), (bundle, "bundle")] {
        let text = scene.run(&["--format", "json", "inspect", &path], 0);
        let about: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(about["files"][0]["what"], what, "{text}");
    }
}

#[test]
fn envelopes_beside_the_log_come_along_and_a_lost_one_is_missed() {
    let scene = Scene { dir: tempfile::tempdir().unwrap() };
    scene.ledger(&["init", "--backend", "encrypted_file"], b"");
    for name in ["one", "two"] {
        scene.ledger(&["secrets", "set", &format!("global/{name}"), "--stdin"], CANARY.as_bytes());
    }
    let home = scene.home();
    let rebuilt = |name: &str| {
        let new = scene.path(name);
        scene.run(&["rebuild", home.to_str().unwrap(), "-o", &new], 0);
        move |words: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
            let output = command.env_clear().args(["--home", &new]).args(words).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        }
    };
    let whole = rebuilt("whole");
    assert_eq!(whole(&["log", "verify", "--state", "--backend"]).0, Some(0));
    assert_eq!(whole(&["secrets", "get", "global/two", "--reveal"]), (Some(0), CANARY.to_owned()));
    let mut objects = Vec::new();
    for shelf in std::fs::read_dir(home.join("objects")).unwrap() {
        objects.extend(std::fs::read_dir(shelf.unwrap().path()).unwrap().map(|object| object.unwrap().path()));
    }
    objects.sort();
    assert_eq!(objects.len(), 2);
    std::fs::remove_file(&objects[1]).unwrap();
    let less = rebuilt("less");
    let (code, said) = less(&["log", "verify", "--state", "--backend"]);
    assert_eq!(code, Some(15), "{said}");
    let values: Vec<_> =
        ["one", "two"].map(|name| less(&["secrets", "get", &format!("global/{name}"), "--reveal"]).0).into();
    assert_eq!(values.iter().filter(|code| **code == Some(0)).count(), 1, "{values:?}");
}

#[test]
fn what_somebody_brought_is_judged_before_the_evidence() {
    let scene = Scene::new();
    let other = Scene::new();
    for one in [&scene, &other] {
        one.ledger(&["log", "checkpoint"], b"");
    }
    let (home, foreign) = (scene.path("home"), other.path("home"));
    let key = |scene: &Scene| {
        let shown = scene.ledger(&["log", "checkpoint", "--public-key"], b"").stdout;
        String::from_utf8(shown).unwrap().trim().to_owned()
    };
    let note = |scene: &Scene| std::fs::read(scene.home().join("checkpoints/notes")).unwrap();
    let anchor = scene.path("anchor.note");
    std::fs::write(&anchor, note(&scene)).unwrap();
    scene.run(&["verify", &home, "--keys", "--anchor", &anchor, "--public-key", &key(&scene)], 0);
    // The same claim under a key that somebody made up: the ledger's own keys tell.
    let forged = scene.path("forged.note");
    let made = palyra_ledger::checkpoint::SignedCheckpoint::parse(
        palyra_ledger::checkpoint::split_notes(&note(&scene)).0.last().unwrap(),
    )
    .unwrap();
    let stranger =
        palyra_ledger::checkpoint::signing_key(&palyra_ledger::crypto::Key::from_bytes(&mut [9; 32])).unwrap();
    let claim = palyra_ledger::checkpoint::Checkpoint { key: stranger.public(), ..made.checkpoint().clone() };
    let claim = palyra_ledger::checkpoint::SignedCheckpoint::sign(claim, &stranger).unwrap();
    std::fs::write(&forged, claim.note()).unwrap();
    scene.run(&["verify", &home, "--anchor", &forged], 15);
    scene.run(&["verify", &home, "--keys", "--anchor", &forged], 15);
    scene.run(&["verify", &home, "--anchor", &anchor, "--anchor", &forged], 15);
    // Keys that are not this ledger's say nothing against it.
    let keys = format!("{foreign}/keys");
    scene.run(&["verify", &home, "--keys-dir", &keys], 4);
    scene.run(&["verify", &home, "--keys", "--key-file", "/etc/hostname"], 11);
    scene.run(&["verify", &home, "--keys", "--key-file", &scene.path("nothing")], 4);
    // Nothing is made in the evidence.
    for words in [vec!["carve", &home, "-o"], vec!["rebuild", &home, "--keys", "-o"]] {
        let inside = format!("{home}/new");
        scene.run(&[words, vec![inside.as_str()]].concat(), 2);
        assert!(!Path::new(&inside).exists());
    }
    let copy = scene.path("copy");
    assert!(Command::new("cp").args(["-r", &home, &copy]).status().unwrap().success());
    scene.run(&["diff", &home, &copy], 0);
    let segment = Path::new(&copy).join("journal/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.extend_from_slice(b"what is no frame");
    std::fs::write(&segment, bytes).unwrap();
    scene.run(&["diff", &home, &copy], 15);
    // A journal behind a link was not hashed with the rest.
    let moved = scene.path("moved");
    std::fs::rename(Path::new(&copy).join("journal"), &moved).unwrap();
    std::os::unix::fs::symlink(&moved, Path::new(&copy).join("journal")).unwrap();
    scene.run(&["verify", &copy, "--anchor", &anchor], 18);
    let manifest = scene.run(&["manifest", &copy], 0);
    assert!(manifest.contains("journal: not readable: not examined: a symbolic link"), "{manifest}");
    std::fs::remove_dir_all(Path::new(&copy).join("keys")).unwrap();
    std::fs::remove_file(Path::new(&copy).join("journal")).unwrap();
    std::fs::rename(&moved, Path::new(&copy).join("journal")).unwrap();
    scene.run(&["verify", &copy, "--keys"], 4);
    for name in ["a", "b"] {
        std::fs::create_dir_all(scene.dir.path().join(name).join("journal")).unwrap();
    }
    scene.run(&["diff", &scene.path("a"), &scene.path("b")], 10);
}

#[test]
fn exit_codes_say_what_was_found() {
    let scene = Scene::new();
    let home = scene.home();
    let home = home.to_str().unwrap();
    scene.run(&["verify", home], 17);
    scene.run(&["verify", &scene.path("nothing")], 10);
    scene.run(&["--format", "ocsf", "verify", home], 2);
    scene.run(&["verify", home, "--public-key", "x+y"], 2);
    scene.run(&["show", home, "99"], 10);
    let segment = scene.home().join("journal/00000000000000000000.seg");
    let whole = std::fs::read(&segment).unwrap();
    scene.run(&["verify", segment.to_str().unwrap()], 17);
    std::fs::write(&segment, &whole[..whole.len() - 300]).unwrap();
    scene.run(&["verify", home], 16);
    scene.run(&["timeline", home], 16);
    let mut flipped = whole.clone();
    flipped[300] ^= 1;
    std::fs::write(&segment, &flipped).unwrap();
    let text = scene.run(&["verify", home], 15);
    assert!(text.contains("DAMAGED(0"), "{text}");
    scene.run(&["--format", "jsonl", "timeline", home], 15);
    std::fs::write(&segment, &whole).unwrap();
    std::fs::remove_dir_all(scene.home().join("keys")).unwrap();
    scene.run(&["verify", home], 17);
    scene.run(&["timeline", home, "--keys"], 4);
}

#[test]
fn a_passphrase_opens_from_the_standard_input_alone() {
    let scene = Scene { dir: tempfile::tempdir().unwrap() };
    let secret = scene.path("passphrase");
    std::fs::write(&secret, "correct horse battery\n").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    scene.ledger(&["init", "--passphrase", "--new-passphrase-file", &secret], b"");
    let home = scene.home();
    let run = |input: &str| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_palyra-forensic"));
        command.args(["timeline", home.to_str().unwrap(), "--passphrase-stdin"]).write_stdin(input);
        command.output().unwrap()
    };
    let opened = run("correct horse battery\n");
    assert!(String::from_utf8_lossy(&opened.stdout).contains("created ledger"), "{opened:?}");
    assert_eq!(run("another one\n").status.code(), Some(11));
    assert_eq!(run("").status.code(), Some(4));
    scene.run(&["timeline", home.to_str().unwrap(), "--keys"], 4);
}
