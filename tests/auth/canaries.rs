//! No token, secret, code or key stands anywhere in the clear: not in a file of the home, a document, an
//! event, an error, a message of the daemon, nor in what a type shows of itself.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use palyra_ledger::auth::documents::Documents;
use palyra_ledger::auth::{Query, standing};
use palyra_ledger::event::auth::{CredentialSource, FailureKind, LoginFlow, OauthSource, Profile};
use palyra_ledger::oauth::login::{CodeLogin, DeviceLogin, revoke};
use palyra_ledger::oauth::{Refresher, TokenClient, exchange};
use palyra_ledger::{
    AuthFilter, AuthSettings, Config, Ledger, NewSlot, NewTokens, PutOptions, ReplayPoint, Scope, SecretBytes,
    SystemClock, VerifyOptions,
};

use crate::endpoint::{Endpoint, Request, Root, http, listener};

const ACCESS: &str = "cAn4ry+access/first=91c2.7f3e~Q";
const ACCESS_2: &str = "cAn4ry+access/later=55d0.a1b7~Q";
const REFRESH: &str = "cAn4ry+refresh/first=0e88.c4d9~Q";
const REFRESH_2: &str = "cAn4ry+refresh/later=b36f.28aa~Q";
const CLIENT_SECRET: &str = "cAn4ry+client/secret=6d17.e2f5~Q";
const CODE: &str = "cAn4ry+code/of-the-page=3b9a.774c~Q";
const DEVICE_CODE: &str = "cAn4ry+device/code=f081.5c6e~Q";
const API_KEY: &str = "cAn4ry+api/key=a95d.1034~Q";
const ALL: [&str; 8] = [ACCESS, ACCESS_2, REFRESH, REFRESH_2, CLIENT_SECRET, CODE, DEVICE_CODE, API_KEY];

fn percent(text: &str, upper: bool) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match (byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte), upper) {
            (true, _) => out.push(char::from(byte)),
            (false, true) => write!(out, "%{byte:02X}").unwrap(),
            (false, false) => write!(out, "%{byte:02x}").unwrap(),
        }
        out
    })
}

/// Every form in which a canary is looked for.
fn forms(canary: &str) -> Vec<Vec<u8>> {
    let bytes = canary.as_bytes();
    let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let listed = format!("{bytes:?}");
    let mut forms = vec![
        canary.to_owned(),
        canary.chars().rev().collect(),
        hex.to_uppercase(),
        hex,
        percent(canary, true),
        percent(canary, false),
        percent(canary, true).replace('~', "%7E"),
        canary.replace('/', "\\/"),
        // What `Debug` makes of bytes.
        listed.trim_matches(['[', ']']).to_owned(),
        // A part of it is enough.
        canary[canary.len() - 16..].to_owned(),
    ];
    for before in 0..3 {
        // Base64 depends on the place within its text: what only this canary decides of it.
        let whole = [&vec![0; before], bytes].concat();
        let (from, to) = ([0, 2, 3][before], whole.len() * 8 / 6);
        forms.push(STANDARD_NO_PAD.encode(&whole)[from..to].to_owned());
        forms.push(URL_SAFE_NO_PAD.encode(&whole)[from..to].to_owned());
    }
    forms.into_iter().map(String::into_bytes).collect()
}

/// The canaries that stand in some bytes, in any form.
fn found(bytes: &[u8]) -> Vec<&'static str> {
    // All forms of all of them at once would be slow over megabytes: by first byte.
    let mut by_first: Vec<Vec<(&'static str, Vec<u8>)>> = vec![Vec::new(); 256];
    for canary in ALL {
        for form in forms(canary) {
            by_first[usize::from(form[0])].push((canary, form));
        }
    }
    let mut hits = Vec::new();
    for (at, first) in bytes.iter().enumerate() {
        for (canary, form) in &by_first[usize::from(*first)] {
            if bytes[at..].starts_with(form) && !hits.contains(canary) {
                hits.push(*canary);
            }
        }
    }
    hits
}

fn search_folder(dir: &Path) -> Vec<(String, Vec<&'static str>)> {
    let (mut hits, mut pending, mut files) = (Vec::new(), vec![dir.to_owned()], 0);
    while let Some(path) = pending.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.is_file() {
            files += 1;
            let name = found(path.to_string_lossy().as_bytes());
            let inside = found(&std::fs::read(&path).unwrap());
            if !name.is_empty() || !inside.is_empty() {
                hits.push((path.display().to_string(), [name, inside].concat()));
            }
        }
    }
    assert!(files > 3, "there are files to look at");
    hits
}

#[test]
fn the_detector_finds_what_is_planted() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d"] {
        std::fs::write(dir.path().join(name), vec![b'c'; 10_000]).unwrap();
    }
    assert_eq!(search_folder(dir.path()), []);
    for canary in ALL {
        for form in forms(canary) {
            let planted = [&[b'c'; 5000][..], &form, &[b'c'; 77]].concat();
            std::fs::write(dir.path().join("b"), planted).unwrap();
            let hits = search_folder(dir.path());
            assert!(hits.len() == 1 && hits[0].1.contains(&canary), "{}: {hits:?}", String::from_utf8_lossy(&form));
        }
        for before in 0..4 {
            let text = format!("{}{canary} and more", "x".repeat(before));
            assert!(found(STANDARD_NO_PAD.encode(&text).as_bytes()).contains(&canary));
            assert!(found(URL_SAFE_NO_PAD.encode(&text).as_bytes()).contains(&canary));
        }
        assert!(found(format!("{:?}", canary.as_bytes().to_vec()).as_bytes()).contains(&canary));
    }
}

/// An endpoint that gives tokens where it is asked well, and says everything it was told and knows wherever
/// HTTP lets it.
fn parrot(request: &Request) -> Vec<u8> {
    let form: Vec<(String, String)> = reqwest::Url::parse(&format!("http://x/?{}", request.body))
        .unwrap()
        .query_pairs()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let basic = request.head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or_default();
    let said = format!("{} {} {basic} {}", field("refresh_token"), request.body, ALL.join(" "));
    let headers = [
        format!("x-said: {said}"),
        format!("www-authenticate: Bearer realm=\"{said}\""),
        format!("set-cookie: t={said}"),
        format!("location: https://{}/{}", percent(REFRESH, true), percent(ACCESS, true)),
    ];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let answer = |status: u16, body: &str| http(&format!("{status} {said}"), &headers, body);
    let error =
        |code: &str| serde_json::json!({"error": code, "error_description": said, "error_uri": said}).to_string();
    let tokens = |access: &str, refresh: &str, expires_in: u64| {
        let body = serde_json::json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer",
            "expires_in": expires_in, "said": said});
        answer(200, &body.to_string())
    };
    match request.path() {
        "/token" => match field("grant_type") {
            "refresh_token" => tokens(ACCESS_2, REFRESH_2, 3600),
            "authorization_code" if field("code") == CODE => tokens(ACCESS, REFRESH, 3600),
            grant if grant.contains("device_code") && field("device_code") == DEVICE_CODE => {
                tokens(ACCESS, REFRESH, 3600)
            }
            _ => answer(400, &error("invalid_request")),
        },
        "/device" => {
            let body = serde_json::json!({"device_code": DEVICE_CODE, "user_code": "AB-CD", "expires_in": 60,
                "verification_uri": "https://x.example/d", "interval": 1, "said": said});
            answer(200, &body.to_string())
        }
        "/revoke" => answer(200, ""),
        "/revoke-not" => answer(503, &error(REFRESH)),
        "/grant" => answer(400, &error("invalid_grant")),
        "/own" => answer(400, &error(field("refresh_token"))),
        "/text" => answer(200, &said),
        "/wrong-type" => {
            answer(200, &serde_json::json!({"access_token": {"x": ACCESS_2}, "refresh_token": [REFRESH_2]}).to_string())
        }
        "/wrong-kind" => {
            answer(200, &serde_json::json!({"access_token": ACCESS_2, "token_type": REFRESH_2}).to_string())
        }
        "/wrong-end" => {
            answer(200, &serde_json::json!({"access_token": ACCESS_2, "expires_in": REFRESH_2}).to_string())
        }
        "/error-in-200" => answer(200, &error(REFRESH_2)),
        "/429" => answer(429, &said),
        "/503" => answer(503, &said),
        "/302" => answer(302, &said),
        "/nonsense" => format!("{said}\r\n\r\n").into_bytes(),
        "/cut" => format!("HTTP/1.1 200 {said}\r\ncontent-length: 99999\r\n\r\n{said}").into_bytes(),
        _ => answer(418, &said),
    }
}

/// Where a refresh fails, in every way in which an endpoint can say something.
const FAILING: [&str; 12] = [
    "/grant",
    "/own",
    "/text",
    "/wrong-type",
    "/error-in-200",
    "/429",
    "/503",
    "/302",
    "/nonsense",
    "/cut",
    "/teapot",
    "/grant",
];

/// Answers with a good token, whatever stands beside it; the last one rotates.
const GOOD: [&str; 3] = ["/wrong-kind", "/wrong-end", "/token"];

fn callback(url: &str) {
    let url = reqwest::Url::parse(url).unwrap();
    let get = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    let (state, back) = (get("state"), reqwest::Url::parse(&get("redirect_uri")).unwrap());
    let mut stream = TcpStream::connect((back.host_str().unwrap(), back.port().unwrap())).unwrap();
    let target = format!("{}?code={}&state={}", back.path(), percent(CODE, true), percent(&state, true));
    stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: x\r\nreferer: {CODE}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(found(answer.as_bytes()), Vec::<&str>::new());
}

fn oauth(endpoint: &Endpoint, path: &str) -> OauthSource {
    OauthSource {
        access: "global/auth/p/access_token".parse().unwrap(),
        refresh: Some("global/auth/p/refresh_token".parse().unwrap()),
        client_secret: Some("global/client_secret".parse().unwrap()),
        token_endpoint: endpoint.url(path),
        revocation_endpoint: Some(endpoint.url("/revoke")),
        client_id: "client".to_owned(),
        scopes: vec!["read".to_owned()],
    }
}

fn profile(source: OauthSource) -> Profile {
    Profile {
        id: "p".parse().unwrap(),
        provider: "custom:parrot".parse().unwrap(),
        name: "p".to_owned(),
        scope: "global".parse().unwrap(),
        enabled: true,
        credential: CredentialSource::Oauth(Box::new(source)),
    }
}

#[test]
fn the_library_tells_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let ledger = Ledger::init(Config::new(&home), NewSlot::file("machine")).unwrap();
    let endpoint = Endpoint::new(parrot);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let client = TokenClient::new(&AuthSettings::default(), Arc::new(SystemClock)).unwrap();
    let auth = ledger.auth();
    let mut told = String::new();
    macro_rules! tell {
        ($($value:expr),+ $(,)?) => { $(writeln!(told, "{:?}", $value).unwrap();)+ };
    }
    let secret = SecretBytes::from(CLIENT_SECRET.as_bytes());
    for (name, value) in [("client_secret", CLIENT_SECRET), ("api", API_KEY)] {
        let value = SecretBytes::from(value.as_bytes());
        ledger.vault(Scope::global()).put(&name.parse().unwrap(), &value, PutOptions::new()).unwrap();
        tell!(ledger.vault(Scope::global()).get(&name.parse().unwrap()).unwrap());
    }
    let key = Profile {
        id: "key".parse().unwrap(),
        credential: CredentialSource::ApiKey("global/api".parse().unwrap()),
        ..profile(oauth(&endpoint, "/token"))
    };
    auth.set(key, None).unwrap();
    // Both logins.
    let source = oauth(&endpoint, "/token");
    let begun =
        runtime.block_on(DeviceLogin::begin(&client, &source, Some(&secret), &endpoint.url("/device"))).unwrap();
    tell!(begun);
    let tokens = runtime.block_on(begun.finish(&client, &source, Some(&secret))).unwrap();
    tell!(tokens);
    let begun = runtime.block_on(CodeLogin::begin(&source, &endpoint.url("/authorize"), 0)).unwrap();
    tell!(begun);
    let url = begun.url().to_owned();
    let page = std::thread::spawn(move || callback(&url));
    let tokens = runtime.block_on(begun.finish(&client, &source, Some(&secret), Duration::from_secs(10))).unwrap();
    page.join().unwrap();
    tell!(tokens);
    let tokens = NewTokens {
        access: tokens.access,
        refresh: tokens.refresh,
        expires_at: None,
        answer: palyra_ledger::auth::AnswerNote::default(),
    };
    tell!(tokens);
    auth.logged_in(&profile(source.clone()), LoginFlow::Code, &tokens).unwrap();
    // Refreshes that fail in every way, and one that rotates.
    let refresher = Refresher::new(&ledger, client.clone());
    tell!(refresher, client, auth, ledger.auth().profiles(&AuthFilter::default()));
    for path in FAILING.into_iter().chain(GOOD) {
        auth.set(profile(oauth(&endpoint, path)), None).unwrap();
        let report = runtime.block_on(refresher.refresh("p".parse().unwrap(), true));
        assert_eq!(report.is_renewed(), GOOD.contains(&path), "{path}: {report:?}");
        tell!(report);
        let (record, runtime_of) = auth.profile(&"p".parse().unwrap()).unwrap();
        tell!(standing(&record.profile, &runtime_of, auth.now(), auth.refresh_window_ms()), record, runtime_of);
        tell!(auth.documents().unwrap());
    }
    let ticket = auth.begin_refresh(&"p".parse().unwrap(), true).unwrap();
    tell!(ticket);
    let answer = runtime.block_on(exchange(&client, &ticket));
    tell!(answer);
    let answer = answer.unwrap();
    let tokens = NewTokens {
        access: answer.access,
        refresh: answer.refresh,
        expires_at: None,
        answer: palyra_ledger::auth::AnswerNote::default(),
    };
    auth.renewed(&ticket.started, &tokens).unwrap();
    // A login with what the endpoint does not take.
    for path in FAILING {
        let source = oauth(&endpoint, path);
        let begun =
            runtime.block_on(DeviceLogin::begin(&client, &source, Some(&secret), &endpoint.url("/device"))).unwrap();
        if path == "/429" || path == "/503" || path == "/nonsense" || path == "/cut" {
            continue; // Those are asked again for a minute.
        }
        let fault = runtime.block_on(begun.finish(&client, &source, Some(&secret))).unwrap_err();
        tell!(fault);
        told += &fault.to_string();
        tell!(fault.of_refresh());
    }
    tell!(auth.select(&Query::default(), true).unwrap());
    auth.report_success(&"key".parse().unwrap()).unwrap();
    auth.report_failure(&"p".parse().unwrap(), FailureKind::AuthInvalid, None).unwrap();
    auth.flush_usage().unwrap();
    tell!(auth.select(&Query::default(), true));
    let (tokens, secret_of) = auth.tokens(&"p".parse().unwrap()).unwrap();
    assert_eq!(tokens.iter().map(SecretBytes::expose).collect::<Vec<_>>(), [REFRESH_2.as_bytes(), ACCESS_2.as_bytes()]);
    tell!(tokens, secret_of);
    let not = OauthSource { revocation_endpoint: Some(endpoint.url("/revoke-not")), ..source.clone() };
    tell!(runtime.block_on(revoke(&client, &not, Some(&secret), &tokens)).unwrap_err());
    assert!(runtime.block_on(revoke(&client, &source, Some(&secret), &tokens)).unwrap());
    auth.logged_out(&"p".parse().unwrap(), true).unwrap();
    // What somebody pasted where it does not belong.
    let Documents { profiles, runtime: records } = auth.documents().unwrap().unwrap();
    for (text, runtime) in pasted(&profiles, &records) {
        let problems = auth.plan(&Documents { profiles: text.clone(), runtime }, None).unwrap().expect_err(&text);
        told += &problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    }
    ledger
        .log()
        .read(0, u64::MAX, &mut |entry| {
            writeln!(told, "{} {} {:?}", entry.kind_name(), entry.fields(), entry.caller).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    let replay = ledger.replay(ReplayPoint::Head).unwrap();
    tell!(replay.auth_documents(300_000).unwrap());
    assert!(ledger.verify(VerifyOptions { state: true, witness: true }).unwrap().ok);
    ledger.close().unwrap();
    assert!(told.len() > 20_000, "{}", told.len());
    assert_eq!(found(told.as_bytes()), Vec::<&str>::new(), "{told}");
    assert_eq!(search_folder(&home), []);
    // The endpoint itself heard all of it.
    let heard = format!("{:?}", endpoint.requests());
    assert!(
        heard.contains(&*percent(REFRESH_2, true).replace('~', "%7E")) || found(heard.as_bytes()).contains(&REFRESH_2)
    );
}

/// Documents into which somebody pasted a key or token where something else belongs.
fn pasted(profiles: &str, records: &str) -> Vec<(String, String)> {
    let mut made = Vec::new();
    let lines: Vec<&str> = profiles.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        // A name, a client's name and a scope may be any text.
        // The last error is the ledger's to write: what stands there is not read.
        if ["last_error", "profile_name", "client_id", "scopes", "custom_name", "agent_id", "profile_id"]
            .contains(&key.trim())
        {
            continue;
        }
        for new in [
            format!("{key} = \"{API_KEY}\""),
            format!("{key} = {API_KEY}"),
            format!("{key} = [\"{API_KEY}\"]"),
            format!("{key} = {{ \"{API_KEY}\" = 1 }}"),
            format!("\"{API_KEY}\" = {value}"),
            format!("{API_KEY} = {value}"),
            API_KEY.to_owned(),
            format!("{line}\n{line}{API_KEY}"),
            format!("{line}\n\"{API_KEY}\" = 1\n\"{API_KEY}\" = 1"),
        ] {
            let mut lines = lines.clone();
            lines[at] = &new;
            made.push((lines.join("\n"), records.to_owned()));
        }
    }
    made.push((profiles.to_owned(), format!("{records}\n[[\"{API_KEY}\"]]\n")));
    made.push((profiles.to_owned(), records.replace("failure_count = 0", &format!("failure_count = \"{API_KEY}\""))));
    made
}

/// A ledger, and the program on it.
struct Home {
    dir: tempfile::TempDir,
    told: std::cell::RefCell<Vec<u8>>,
}

impl Home {
    fn new() -> Self {
        let home = Self { dir: tempfile::tempdir().unwrap(), told: std::cell::RefCell::default() };
        home.run(&["init"], 0);
        home
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palyra-ledger"));
        command.env_clear().env("PALYRA_LEDGER_HOME", self.dir.path().join("home")).env("TMPDIR", self.dir.path());
        command.env("PALYRA_LEDGER_LOG", "trace").env("RUST_BACKTRACE", "1").current_dir(self.dir.path());
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn hear(&self, output: &Output) -> String {
        let text = [&output.stdout[..], b"\n", &output.stderr, b"\n"].concat();
        self.told.borrow_mut().extend(&text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Runs the program; `code` is the exit code that is wanted, negative: any but 0.
    fn run(&self, words: &[&str], code: i32) -> String {
        let output = self.command(words).output().unwrap();
        let text = self.hear(&output);
        let got = output.status.code().unwrap();
        assert!(got == code || (code < 0 && got > 0), "{words:?} gave {got}: {text}");
        text
    }

    fn set(&self, name: &str, value: &str) {
        let mut child = self.command(&["secrets", "set", name, "--stdin"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", self.hear(&output));
    }

    fn login(&self, endpoint: &Endpoint, format: &str, flow: &str) {
        let (token, revoke) = (endpoint.url("/token"), endpoint.url("/revoke"));
        let (page, device) = (endpoint.url("/authorize"), endpoint.url("/device"));
        let mut child = self
            .command(&[
                "--format",
                format,
                "auth",
                "login",
                "--profile",
                "p",
                "--provider",
                "custom:parrot",
                "--token-endpoint",
                &token,
                "--revocation-endpoint",
                &revoke,
                "--client-id",
                "client",
                "--client-secret-ref",
                "global/client_secret",
                "--grant-scope",
                "read",
                "--flow",
                flow,
                "--authorization-endpoint",
                &page,
                "--device-endpoint",
                &device,
            ])
            .spawn()
            .unwrap();
        let mut messages = BufReader::new(child.stderr.take().unwrap());
        if flow == "code" {
            let mut line = String::new();
            while !line.contains("http") {
                line.clear();
                assert!(messages.read_line(&mut line).unwrap() > 0, "the program ended");
                self.told.borrow_mut().extend(line.as_bytes());
            }
            callback(line[line.find("http").unwrap()..].trim());
        }
        let mut rest = Vec::new();
        messages.read_to_end(&mut rest).unwrap();
        self.told.borrow_mut().extend(&rest);
        let output = child.wait_with_output().unwrap();
        let text = self.hear(&output);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&rest));
    }

    /// Everything that the program does with credentials, in one format.
    fn tour(&self, endpoint: &Endpoint, format: &str) {
        let run = |words: &[&str], code| self.run(&[&["--format", format], words].concat(), code);
        self.login(endpoint, format, "device");
        self.login(endpoint, format, "code");
        for path in FAILING.into_iter().chain(["/token"]) {
            run(&["auth", "profiles", "set", "p", "--token-endpoint", &endpoint.url(path)], 0);
            run(&["auth", "refresh", "--profile", "p", "--force"], if path == "/token" { 0 } else { -1 });
        }
        for words in [
            &["auth", "profiles", "list"][..],
            &["auth", "profiles", "show", "p"],
            &["auth", "profiles", "show", "key"],
            &["auth", "health"],
            &["auth", "select", "--explain"],
            &["auth", "report", "failure", "key", "--kind", "quota"],
            &["auth", "select", "--explain"],
            &["auth", "refresh", "--due"],
            &["auth", "order", "set", "--provider", "custom:parrot", "p"],
            &["auth", "order", "list"],
            &["auth", "docs"],
            &["auth", "docs", "--write", "."],
            &["auth", "docs", "diff", "."],
            &["auth", "docs", "apply", "."],
            &["secrets", "list"],
            &["secrets", "get", "global/auth/p/refresh_token"],
            &["log", "verify", "--state"],
        ] {
            run(words, 0);
        }
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        let (profiles, records) = (read("auth_profiles.toml"), read("auth_profile_runtime_state.toml"));
        let all = pasted(&profiles, &records);
        for (text, runtime) in all.iter().step_by(all.len() / 6) {
            std::fs::write(self.dir.path().join("auth_profiles.toml"), text).unwrap();
            std::fs::write(self.dir.path().join("auth_profile_runtime_state.toml"), runtime).unwrap();
            run(&["auth", "docs", "diff", "."], 0);
            run(&["auth", "docs", "apply", "."], -1);
        }
        run(&["auth", "profiles", "set", "p", "--revocation-endpoint", &endpoint.url("/revoke-not")], 0);
        run(&["auth", "logout", "--profile", "p", "--yes"], -1);
        run(&["auth", "logout", "--profile", "p", "--yes", "--force"], 0);
        run(&["auth", "refresh", "--profile", "p", "--force"], -1);
        run(&["auth", "health"], 0);
        run(&["doctor"], 0);
        run(&["log", "show"], 0);
    }

    fn check(&self) {
        let told = self.told.borrow();
        assert!(told.len() > 20_000, "{}", told.len());
        let hits = found(&told);
        assert_eq!(hits, Vec::<&str>::new(), "{}", String::from_utf8_lossy(&told));
        assert_eq!(search_folder(&self.dir.path().join("home")), []);
    }
}

fn prepared() -> (Home, Endpoint) {
    let (home, endpoint) = (Home::new(), Endpoint::new(parrot));
    home.set("global/client_secret", CLIENT_SECRET);
    home.set("global/api", API_KEY);
    home.run(&["auth", "profiles", "set", "key", "--provider", "custom:parrot", "--api-key-ref", "global/api"], 0);
    (home, endpoint)
}

#[test]
fn the_command_line_tells_nobody() {
    let (home, endpoint) = prepared();
    for format in ["table", "json"] {
        home.tour(&endpoint, format);
    }
    home.check();
}

#[test]
fn the_daemon_tells_nobody_even_where_it_tells_everything() {
    let (home, endpoint) = prepared();
    let messages = home.dir.path().join("messages");
    let mut command = home.command(&[
        "--format",
        "json",
        "serve",
        "--listen",
        "off",
        "--pairing-listen",
        "off",
        "--metrics-listen",
        "off",
        "--log",
        "json",
    ]);
    command.stderr(std::fs::File::create(&messages).unwrap());
    let mut daemon = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    home.told.borrow_mut().extend(line.as_bytes());
    home.tour(&endpoint, "json");
    // What the daemon refreshes by itself: once in vain, once well.
    home.login(&endpoint, "json", "code");
    let tries = |path: &str| {
        let fits = |request: &&Request| request.path() == path && request.body.contains("grant_type=refresh_token");
        endpoint.requests().iter().filter(fits).count()
    };
    let own = tries("/own");
    home.run(
        &[
            "auth",
            "profiles",
            "set",
            "p",
            "--token-endpoint",
            &endpoint.url("/own"),
            "--expires-at",
            "2020-01-01T00:00:00Z",
        ],
        0,
    );
    // Another endpoint gets the old token on a person's word alone.
    home.run(&["auth", "profiles", "clear", "p"], 0);
    // Counted from the start: the daemon may be faster than this test.
    let awaited = |path: &str, before: usize| {
        let begun = Instant::now();
        while tries(path) == before {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", std::fs::read_to_string(&messages).unwrap());
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    awaited("/own", own);
    let good = tries("/token");
    let url = endpoint.url("/token");
    home.run(&["auth", "profiles", "set", "p", "--token-endpoint", &url, "--expires-at", "2020-01-01T00:00:00Z"], 0);
    home.run(&["auth", "profiles", "clear", "p"], 0);
    awaited("/token", good);
    home.run(&["log", "show"], 0);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = daemon.wait().unwrap();
    let said = std::fs::read_to_string(&messages).unwrap();
    assert!(ended.success() && said.contains("a token was not refreshed"), "{said}");
    home.told.borrow_mut().extend(said.as_bytes());
    home.check();
}

#[test]
fn proxies_of_the_environment_are_not_asked() {
    let root = Root::new();
    let home = Home::new();
    let endpoint = Endpoint::tls(listener(), root.server(&["localhost"], |_| {}), parrot);
    let trap = Endpoint::trap(listener());
    std::fs::write(home.dir.path().join("root.pem"), &root.pem).unwrap();
    let config = format!("[auth]\nca_file = \"{}\"\n", home.dir.path().join("root.pem").display());
    std::fs::write(home.dir.path().join("home/config.toml"), config).unwrap();
    home.set("global/auth/p/refresh_token", REFRESH);
    let url = format!("https://localhost:{}/token", endpoint.at.port());
    home.run(
        &["auth", "profiles", "set", "p", "--provider", "custom:x", "--token-endpoint", &url, "--client-id", "c"],
        0,
    );
    let mut command = home.command(&["auth", "refresh", "--profile", "p", "--force"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env(name, trap.url(""));
    }
    let output = command.output().unwrap();
    let text = home.hear(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!((trap.connections(), endpoint.requests().len()), (0, 1));
}
