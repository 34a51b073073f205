//! `auth` as a script sees it: fields, pages, filters and exit codes.

use serde_json::Value;

use super::Home;

fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn key(home: &Home, id: &str, provider: &str, more: &[&str]) {
    let mut words = vec!["auth", "profiles", "set", id, "--provider", provider, "--api-key-ref", "global/key"];
    words.extend(more);
    home.ok(&words);
}

fn ids(page: &Value) -> Vec<&str> {
    page["profiles"].as_array().unwrap().iter().map(|profile| profile["id"].as_str().unwrap()).collect()
}

#[test]
fn profiles_are_listed_filtered_and_paged() {
    let home = Home::new();
    for (id, provider, more) in [
        ("a", "openai", &[][..]),
        ("b", "openai", &["--scope", "agent:x", "--name", "Of agent x"]),
        ("c", "anthropic", &[]),
        ("d", "custom:corp", &[]),
    ] {
        key(&home, id, provider, more);
    }
    home.ok(&["auth", "profiles", "disable", "c"]);
    let list = |more: &[&str]| {
        let mut words = vec!["auth", "profiles", "list"];
        words.extend(more);
        home.json(&words)
    };
    assert_eq!(ids(&list(&[])), ["a", "b", "c", "d"]);
    assert_eq!(ids(&list(&["--provider", "openai"])), ["a", "b"]);
    assert_eq!(ids(&list(&["--scope", "agent:x"])), ["b"]);
    assert_eq!(ids(&list(&["--enabled"])), ["a", "b", "d"]);
    assert_eq!(ids(&list(&["--disabled"])), ["c"]);
    let page = list(&["--limit", "3"]);
    assert_eq!((ids(&page), &page["next"]), (vec!["a", "b", "c"], &"c".into()));
    let page = list(&["--limit", "3", "--after", "c"]);
    assert_eq!((ids(&page), &page["next"]), (vec!["d"], &Value::Null));
    let shown = home.show("b");
    assert_eq!(
        fields(&shown),
        [
            "cooldown_until_ms",
            "created_ms",
            "credential",
            "eligibility",
            "enabled",
            "expires_at_ms",
            "failure_count",
            "health",
            "id",
            "in_doubt",
            "last_failure_kind",
            "last_failure_ms",
            "last_success_ms",
            "last_used_ms",
            "name",
            "next",
            "provider",
            "reasons",
            "refresh_failures",
            "refresh_generation",
            "refresh_retry_at_ms",
            "refreshed_ms",
            "refreshing_until_ms",
            "scope",
            "token",
            "updated_ms",
        ]
    );
    assert_eq!(
        (&shown["name"], &shown["scope"], &shown["token"]),
        (&"Of agent x".into(), &"agent:x".into(), &"static".into())
    );
    home.ok(&["auth", "profiles", "delete", "b", "--yes"]);
    home.run(&["auth", "profiles", "show", "b"], 10);
    home.run(&["auth", "profiles", "delete", "a"], 3);
}

#[test]
fn what_a_profile_may_not_be_is_refused_with_its_reason() {
    let home = Home::new();
    home.run(&["auth", "profiles", "set", "a b", "--provider", "openai", "--api-key-ref", "global/key"], 2);
    home.run(&["auth", "profiles", "set", "a", "--provider", "nobody", "--api-key-ref", "global/key"], 2);
    home.run(&["auth", "profiles", "set", "a", "--provider", "openai"], 2);
    home.run(&["auth", "profiles", "set", "a", "--api-key-ref", "global/key"], 2);
    for endpoint in ["http://auth.example/token", "https://u:p@auth.example/", "https://auth.example/?a", "ftp://x"] {
        let words =
            ["auth", "profiles", "set", "a", "--provider", "openai", "--client-id", "c", "--token-endpoint", endpoint];
        let (_, error) = home.run(&words, 2);
        assert!(error.contains("the token endpoint") && !error.contains("u:p"), "{error}");
    }
    home.run(&["auth", "refresh", "--profile", "none"], 10);
    key(&home, "k", "openai", &[]);
    home.run(&["auth", "refresh", "--profile", "k"], 2);
    home.run(&["auth", "logout", "--profile", "k", "--yes"], 2);
    home.run(&["auth", "order", "set", "--provider", "slack", "k"], 2);
}

#[test]
fn selection_says_whom_it_passed_over_and_why() {
    let home = Home::new();
    key(&home, "first", "openai", &[]);
    key(&home, "second", "openai", &[]);
    key(&home, "own", "openai", &["--scope", "agent:x"]);
    key(&home, "other", "slack", &[]);
    home.ok(&["auth", "order", "set", "--provider", "openai", "first", "second"]);
    let select = |more: &[&str]| {
        let mut words = vec!["auth", "select", "--explain", "--provider", "openai"];
        words.extend(more);
        home.json(&words)
    };
    let why = |chosen: &Value, id: &str| {
        let skipped = chosen["skipped"].as_array().unwrap().iter().find(|skipped| skipped["profile"] == id).unwrap();
        (skipped["why"].as_str().unwrap().to_owned(), skipped["until_ms"].as_u64())
    };
    let chosen = select(&[]);
    assert_eq!(fields(&chosen), ["instead_of", "probe", "profile", "skipped"]);
    assert_eq!(chosen["profile"]["id"], "first");
    assert_eq!(why(&chosen, "own").0, "other_agent");
    assert_eq!(why(&chosen, "other").0, "other_provider");
    assert_eq!(why(&chosen, "second").0, "outranked");
    assert_eq!(select(&["--agent", "x"])["profile"]["id"], "own");
    assert_eq!(select(&["--deny", "first"])["profile"]["id"], "second");
    assert_eq!(select(&["--order", "second,first"])["profile"]["id"], "second");
    home.ok(&["auth", "report", "failure", "first", "--kind", "rate_limit", "--retry-after", "1h"]);
    let chosen = select(&[]);
    assert_eq!((&chosen["profile"]["id"], &chosen["instead_of"]["profile"]), (&"second".into(), &"first".into()));
    let (reason, until) = why(&chosen, "first");
    assert!(reason == "cooling_down" && until.is_some());
    home.run(&["auth", "select", "--provider", "openai", "--allow", "oauth"], 10);
    home.ok(&["auth", "report", "success", "second"]);
    assert_eq!(home.show("second")["failure_count"], 0);
    home.run(&["auth", "report", "success", "nobody"], 10);
    home.run(&["auth", "report", "failure", "first", "--kind", "bad luck"], 2);
    home.ok(&["auth", "profiles", "clear", "first"]);
    assert_eq!(select(&[])["profile"]["id"], "first");
    home.ok(&["log", "verify", "--state"]);
}

#[test]
fn documents_are_written_edited_and_applied() {
    let home = Home::new();
    key(&home, "a", "openai", &[]);
    key(&home, "b", "openai", &[]);
    let dir = home.dir.path().join("docs");
    std::fs::create_dir(&dir).unwrap();
    let at = dir.to_str().unwrap();
    let written = home.json(&["auth", "docs", "--write", at]);
    assert_eq!(written["files"].as_array().unwrap().len(), 2);
    let file = dir.join("auth_profiles.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let seq = written["seq"].as_u64().unwrap();
    assert!(text.starts_with(&format!("# palyra-ledger: event {seq}, state root ")), "{text}");
    assert_eq!(home.json(&["auth", "docs", "diff", at])["edits"].as_array().unwrap().len(), 0);
    // The same event gives the same bytes, whatever came after.
    key(&home, "c", "slack", &[]);
    let again = home.json(&["auth", "docs", "--at", &seq.to_string()]);
    assert_eq!(again["auth_profiles.toml"], text.as_str());
    // An edit of what others did not touch.
    std::fs::write(&file, text.replace("profile_name = \"a\"", "profile_name = \"Main\"")).unwrap();
    let edits = home.json(&["auth", "docs", "diff", at]);
    assert_eq!(edits["edits"], serde_json::json!(["set profile a"]));
    home.ok(&["auth", "docs", "apply", at]);
    assert_eq!(home.show("a")["name"], "Main");
    assert_eq!(home.show("c")["provider"], "slack");
    // A wrong one, line by line, and nothing is changed.
    let wrong = text.replace("kind = \"openai\"", "kind = \"nobody\"");
    std::fs::write(&file, &wrong).unwrap();
    let line = 1 + wrong.lines().position(|line| line == "[[profiles]]").unwrap();
    let (_, error) = home.run(&["auth", "docs", "apply", at], 2);
    assert!(error.contains(&format!("auth_profiles.toml:{line}:")), "{error}");
    // An edit of what was changed in the ledger since.
    std::fs::write(&file, text.replace("profile_name = \"a\"", "profile_name = \"Mine\"")).unwrap();
    home.run(&["auth", "docs", "apply", at], 12);
    home.run(&["auth", "docs", "--at", "9999"], 10);
    home.ok(&["log", "verify", "--state"]);
}
