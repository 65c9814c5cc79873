//! A real browser, driven by the `DevTools` protocol over a pipe.
//!
//! Chromium reads commands on descriptor 3 and answers on descriptor 4, as JSON that ends with a zero byte
//! (`--remote-debugging-pipe`), so no port, no web socket and no further crate are needed.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing takes longer; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// One window; the browser ends on drop.
pub struct Browser {
    child: Child,
    commands: UnixStream,
    answers: BufReader<UnixStream>,
    session: Option<String>,
    last_id: u64,
    /// Not looked at yet.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// # Panics
    /// When there is no `chromium`.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder can be made");
        let (ours, theirs) = UnixStream::pair().expect("a socket pair can be made");
        ours.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let mut command = Command::new("chromium");
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let pipe = theirs.as_raw_fd();
        // SAFETY: only `fcntl` and `dup2` are called between fork and exec. The copy far above 4 cannot be
        // overwritten while 3 and 4 are made.
        unsafe {
            command.pre_exec(move || {
                let copy = libc::fcntl(pipe, libc::F_DUPFD_CLOEXEC, 100);
                for target in [3, 4] {
                    if copy < 0 || libc::dup2(copy, target) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("chromium is installed: apt-get install chromium");
        let answers = BufReader::new(ours.try_clone().expect("a socket can be duplicated"));
        let mut browser = Self {
            child,
            commands: ours,
            answers,
            session: None,
            last_id: 0,
            events: Vec::new(),
            _profile: profile,
        };
        browser.open_window();
        browser
    }

    fn open_window(&mut self) {
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call("Target.attachToTarget", &attach);
        self.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility", "Audits"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
    }

    /// One command and its answer.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let mut text = command.to_string().into_bytes();
        text.push(0);
        self.commands.write_all(&text).expect("the browser lives");
        loop {
            let message = self.hear();
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn hear(&mut self) -> Value {
        let mut text = Vec::new();
        self.answers.read_until(0, &mut text).expect("the browser answers in time");
        text.pop();
        serde_json::from_slice(&text).expect("the browser speaks JSON")
    }

    /// Does something that leads to another page, and waits until that is loaded.
    pub fn travel(&mut self, go: impl FnOnce(&mut Self)) {
        self.events.retain(|event| event["method"] != "Page.loadEventFired");
        go(self);
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.hear();
            self.events.push(event);
        }
    }

    pub fn visit(&mut self, url: &str) {
        self.travel(|browser| {
            browser.call("Page.navigate", &json!({ "url": url }));
        });
    }

    /// The value of an expression on the page.
    pub fn ask(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Asks until it is so.
    pub fn wait_for(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.ask(expression) != json!(true) {
            assert!(Instant::now() < deadline, "never so: {expression}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Text of every element that a selector finds.
    pub fn texts(&mut self, selector: &str) -> Vec<String> {
        let found = self.ask(&format!(
            "[...document.querySelectorAll({})].map((found) => found.textContent.trim())",
            json!(selector)
        ));
        found.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    }

    /// A click, as a hand makes it, that leads to another page.
    pub fn follow(&mut self, selector: &str) {
        let middle = self.ask(&format!(
            "(() => {{
                const found = document.querySelector({});
                found.scrollIntoView({{ block: 'center' }});
                const box = found.getBoundingClientRect();
                return {{ x: box.x + box.width / 2, y: box.y + box.height / 2 }};
            }})()",
            json!(selector)
        ));
        self.travel(|browser| {
            for kind in ["mousePressed", "mouseReleased"] {
                let press = json!({
                    "type": kind, "x": middle["x"], "y": middle["y"], "button": "left", "clickCount": 1
                });
                browser.call("Input.dispatchMouseEvent", &press);
            }
        });
    }

    /// Width in pixels, and the colours that the visitor's system asks for.
    pub fn show_as(&mut self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// What the browser complained of since the last question: errors, warnings, violations of the policy.
    pub fn complaints(&mut self) -> Vec<Value> {
        // A round trip, so that what was said before is heard.
        self.ask("0");
        let is_complaint = |event: &Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Audits.issueAdded" | "Network.loadingFailed") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] != "log",
            Some("Log.entryAdded") => {
                matches!(event["params"]["entry"]["level"].as_str(), Some("warning" | "error"))
            }
            _ => false,
        };
        std::mem::take(&mut self.events).into_iter().filter(is_complaint).collect()
    }

    /// Role and name of everything that the accessibility tree holds.
    pub fn accessible(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let shown = nodes.iter().filter(|node| node["ignored"] != json!(true));
        let text = |node: &Value, field: &str| node[field]["value"].as_str().unwrap_or_default().to_owned();
        shown.map(|node| (text(node, "role"), text(node, "name").trim().to_owned())).collect()
    }

    /// The whole page as a picture, kept as `<target>/browser/<name>.png`. Returns its size in bytes.
    pub fn picture(&mut self, name: &str) -> usize {
        let shot = self.call("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        let bytes = from_base64(shot["data"].as_str().expect("a picture is text"));
        assert_eq!(&bytes[1..4], b"PNG");
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../browser");
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        std::fs::write(folder.join(name).with_extension("png"), &bytes).expect("a picture can be kept");
        bytes.len()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 6 | u32::from(value(*byte)));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}
