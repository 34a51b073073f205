//! The report as a browser shows it: a real headless Chromium, spoken to over its debugging pipe.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::report::Scene;

/// Longest wait for one answer; a loaded machine needs some of it.
const PATIENCE: Duration = Duration::from_mins(1);

struct Browser {
    child: Child,
    input: File,
    answers: Receiver<Value>,
    events: Vec<Value>,
    number: u64,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Starts a browser; nothing where this machine has none.
    fn start(dir: &Path) -> Option<Self> {
        let program = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
            let version = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            version.is_ok_and(|status| status.success())
        })?;
        let (input, output) = (dir.join("to-browser"), dir.join("from-browser"));
        assert!(Command::new("mkfifo").arg(&input).arg(&output).status().unwrap().success());
        // Opened both ways, neither end waits for the other.
        let both = |path: &Path| OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (to, from) = (both(&input), both(&output));
        let child = Command::new("sh")
            .args(["-c", r#"exec "$@" 3<"$BROWSER_INPUT" 4>"$BROWSER_OUTPUT""#, "sh", program])
            .args(["--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-sandbox", "--no-first-run"])
            .args(["--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows"])
            .arg(format!("--user-data-dir={}", dir.join("profile").display()))
            .env("BROWSER_INPUT", &input)
            .env("BROWSER_OUTPUT", &output)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (send, answers) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(from).split(0) {
                let Ok(value) = message.map(|bytes| serde_json::from_slice(&bytes).unwrap_or_default()) else { return };
                if send.send(value).is_err() {
                    return;
                }
            }
        });
        Some(Self { child, input: to, answers, events: Vec::new(), number: 0 })
    }

    fn ask(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.input.write_all(message.to_string().as_bytes()).unwrap();
        self.input.write_all(&[0]).unwrap();
        loop {
            let answer = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no answer to {method}"));
            if answer["id"] == self.number {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn wait_for(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let event = self.answers.recv_timeout(PATIENCE).unwrap();
            self.events.push(event);
        }
    }

    /// A page of its own.
    fn open(&mut self) -> String {
        let target = self.ask(None, "Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = self.ask(None, "Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        attached["sessionId"].as_str().unwrap().to_owned()
    }

    /// What is in a picture, as the browser itself decodes it. The page that does it stays in the background, where an
    /// element is drawn only when the browser finds the time; a bitmap is not.
    fn look(&mut self, session: &str, png: &str) -> Picture {
        let script = format!(
            "(async () => {{ const bytes = Uint8Array.from(atob('{png}'), one => one.charCodeAt(0));
             const image = await createImageBitmap(new Blob([bytes], {{type: 'image/png'}}));
             const canvas = new OffscreenCanvas(image.width, image.height);
             const context = canvas.getContext('2d'); context.drawImage(image, 0, 0);
             const data = context.getImageData(0, 0, image.width, image.height).data;
             const colours = new Map(); let sum = 0;
             for (let at = 0; at < data.length; at += 4) {{
               const colour = data[at] << 16 | data[at + 1] << 8 | data[at + 2];
               colours.set(colour, (colours.get(colour) || 0) + 1); sum += data[at] + data[at + 1] + data[at + 2];
             }}
             const pixels = data.length / 4;
             return [colours.size, Math.round(sum / pixels / 3), Math.round(1000 * Math.max(...colours.values()) / pixels)];
             }})()"
        );
        let parameters = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let found = self.ask(Some(session), "Runtime.evaluate", parameters)["result"]["value"].clone();
        let number = |at: usize| found[at].as_u64().unwrap_or_else(|| panic!("{found}"));
        Picture { colours: number(0), brightness: number(1), plain_of_thousand: number(2) }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Picture {
    colours: u64,
    brightness: u64,
    plain_of_thousand: u64,
}

#[test]
fn a_browser_shows_the_report_in_light_dark_and_print_without_scripts_or_requests() {
    let scene = Scene::new();
    scene.page("report.html");
    let Some(mut browser) = Browser::start(&scene.path("")) else {
        assert!(std::env::var_os("PALYRA_NEED_PEERS").is_none(), "PALYRA_NEED_PEERS is set and there is no Chromium");
        #[allow(clippy::print_stderr)]
        {
            eprintln!("SKIPPED: this machine has no Chromium");
        }
        return;
    };
    let eye = browser.open();
    let page = browser.open();
    let session = Some(page.as_str());
    for domain in ["Page.enable", "Network.enable", "Log.enable", "Runtime.enable"] {
        browser.ask(session, domain, json!({}));
    }
    let size = json!({"width": 1180, "height": 1400, "deviceScaleFactor": 1, "mobile": false});
    browser.ask(session, "Emulation.setDeviceMetricsOverride", size);
    browser.ask(session, "Emulation.setScriptExecutionDisabled", json!({"value": true}));
    let url = format!("file://{}", scene.path("report.html").display());
    browser.ask(session, "Page.navigate", json!({"url": url}));
    browser.wait_for("Page.loadEventFired");

    let mut pictures = Vec::new();
    for (media, scheme) in [("screen", "light"), ("screen", "dark"), ("print", "light")] {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.ask(session, "Emulation.setEmulatedMedia", json!({"media": media, "features": features}));
        let taken = browser.ask(session, "Page.captureScreenshot", json!({"format": "png"}));
        let picture = browser.look(&eye, taken["data"].as_str().unwrap());
        // Neither blank nor a wall: something is drawn, in more than a few colours, on a calm ground.
        assert!(
            picture.colours > 50 && (500..995).contains(&picture.plain_of_thousand),
            "{media} {scheme}: {picture:?}"
        );
        pictures.push(picture);
    }
    assert!(pictures[0].brightness > 200 && pictures[2].brightness > 200, "{pictures:?}");
    assert!(pictures[1].brightness < 80, "{pictures:?}");

    // On paper the contents are left out.
    browser.ask(session, "Emulation.setEmulatedMedia", json!({"media": "screen"}));
    let tree = browser.ask(session, "Accessibility.getFullAXTree", json!({}));
    accessible(tree["nodes"].as_array().unwrap());

    let pdf = browser.ask(session, "Page.printToPDF", json!({"preferCSSPageSize": true, "printBackground": true}));
    let pdf = STANDARD.decode(pdf["data"].as_str().unwrap()).unwrap();
    let text = String::from_utf8_lossy(&pdf);
    let pages = text.matches("/Type /Page").count() - text.matches("/Type /Pages").count();
    assert!(pdf.starts_with(b"%PDF") && (2..20).contains(&pages), "{pages} pages");

    silent(&browser.events, &url);
}

/// The page asked for itself and nothing else, and nothing was complained about.
fn silent(events: &[Value], url: &str) {
    let asked: Vec<&str> = events
        .iter()
        .filter(|event| event["method"] == "Network.requestWillBeSent")
        .filter_map(|event| event["params"]["request"]["url"].as_str())
        .filter(|asked| !asked.starts_with("data:"))
        .collect();
    assert_eq!(asked, [url]);
    for complaint in ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"] {
        let found = events.iter().find(|event| event["method"] == complaint && event["sessionId"].is_string());
        assert!(found.is_none(), "{found:?}");
    }
}

/// Charts and tables have names, headings come in order, and the landmarks are there.
fn accessible(nodes: &[Value]) {
    let all: Vec<(&str, &str, &Value)> = nodes
        .iter()
        .filter(|node| node["ignored"] != true)
        .map(|node| {
            let text = |part: &str| node[part]["value"].as_str().unwrap_or_default();
            (text("role"), text("name"), node)
        })
        .collect();
    for name in ["Events over time", "Map of the chain", "Whole, with a reservation"] {
        let named = all.iter().any(|(role, other, _)| matches!(*role, "image" | "img") && *other == name);
        assert!(named, "no image is named {name}");
    }
    for landmark in ["banner", "navigation", "main", "contentinfo"] {
        assert!(all.iter().any(|(role, _, _)| *role == landmark), "{landmark}");
    }
    let tables: Vec<&str> = all.iter().filter(|(role, _, _)| *role == "table").map(|(_, name, _)| *name).collect();
    assert!(tables.len() >= 6 && tables.iter().all(|name| !name.is_empty()), "{tables:?}");
    let level = |node: &Value| {
        let properties = node["properties"].as_array().cloned().unwrap_or_default();
        properties.iter().find(|property| property["name"] == "level").and_then(|one| one["value"]["value"].as_u64())
    };
    let levels: Vec<u64> =
        all.iter().filter(|(role, _, _)| *role == "heading").filter_map(|(_, _, node)| level(node)).collect();
    assert_eq!(levels.first(), Some(&1));
    assert!(levels.len() > 8 && levels.windows(2).all(|two| two[1] <= two[0] + 1), "{levels:?}");
}
