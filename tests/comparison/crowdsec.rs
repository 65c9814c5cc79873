//! `CrowdSec`: its hub's scenario for port scans over the firewall's log, and its bouncer for nftables.

use crate::kernel_log::{KernelLog, path};
use crate::peer::{Peer, ProcessGroup, listing, names, nft_duration};
use crate::report::package_version;
use glacis_tests::daemon::eventually;
use glacis_tests::netns::Namespace;
use std::fs;
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Debian ships the hub, so nothing is fetched.
const HUB: &str = "/usr/share/crowdsec/hub";
const ITEMS: [(&str, &str); 4] = [
    ("parsers/s00-raw", "syslog-logs"),
    ("parsers/s01-parse", "iptables-logs"),
    ("parsers/s02-enrich", "dateparse-enrich"),
    ("scenarios", "iptables-scan-multi_ports"),
];

const LOCAL_API: &str = "127.0.0.1:8080";
const START_PATIENCE: Duration = Duration::from_secs(60);

pub struct CrowdSec<'a> {
    victim: &'a Namespace,
    folder: PathBuf,
    log: KernelLog,
    processes: ProcessGroup,
}

impl<'a> CrowdSec<'a> {
    pub fn new(victim: &'a Namespace, folder: &Path) -> Self {
        let log = KernelLog::start(victim, folder);
        for (stage, item) in ITEMS {
            let stage = folder.join(stage);
            fs::create_dir_all(&stage).expect("the folder is ours");
            let hub = Path::new(HUB).join(stage.strip_prefix(folder).expect("just joined"));
            let file = format!("{item}.yaml");
            symlink(hub.join("crowdsecurity").join(&file), stage.join(&file)).expect("the folder is ours");
        }
        for name in ["postoverflows", "data", "notifications", "plugins"] {
            fs::create_dir(folder.join(name)).expect("the folder is ours");
        }
        for name in ["profiles.yaml", "simulation.yaml"] {
            fs::copy(Path::new("/etc/crowdsec").join(name), folder.join(name))
                .expect("the package's configuration");
        }
        symlink("/etc/crowdsec/patterns", folder.join("patterns")).expect("the folder is ours");
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("the folder is ours");
        write("local_api_credentials.yaml", "");
        write("acquis.yaml", &format!("filenames:\n  - {}\nlabels:\n  type: syslog\n", log.file().display()));
        write(
            "config.yaml",
            &CONFIGURATION
                .replace("FOLDER", path(folder))
                .replace("HUB", HUB)
                .replace("LOCAL_API", LOCAL_API),
        );
        let crowdsec =
            Self { victim, folder: folder.to_owned(), log, processes: ProcessGroup::new("crowdsec") };
        crowdsec.ask(&["machines", "add", "--auto", "--force"]);
        let key = crowdsec.ask(&["bouncers", "add", "firewall", "-o", "raw"]);
        write("bouncer.yaml", &BOUNCER.replace("FOLDER", path(folder)).replace("KEY", key.trim()));
        crowdsec
    }

    fn spawn(&mut self, program: &str, configuration: &str) {
        let configuration = self.folder.join(configuration);
        let argv = [program, "-c", path(&configuration)];
        self.processes.spawn(self.victim, &argv, &self.folder.join(format!("{program}.out")));
    }

    fn ask(&self, words: &[&str]) -> String {
        let configuration = self.folder.join("config.yaml");
        listing(self.victim, &[&["cscli", "-c", path(&configuration)], words].concat())
    }
}

impl Peer for CrowdSec<'_> {
    fn title(&self) -> String {
        format!("CrowdSec {}", package_version("crowdsec"))
    }

    fn start(&mut self) {
        self.log.load_firewall(self.victim);
        self.spawn("crowdsec", "config.yaml");
        // The bouncer gives up where nobody answers it.
        eventually("CrowdSec's local API answers", START_PATIENCE, || {
            self.victim.enter(|| TcpStream::connect(LOCAL_API).is_ok())
        });
        self.spawn("crowdsec-firewall-bouncer", "bouncer.yaml");
        std::thread::sleep(Duration::from_secs(6));
    }

    fn stop(&mut self) {
        self.processes.stop();
    }

    fn kill(&mut self) {
        self.processes.kill();
    }

    /// It tells of a source only once a scenario has decided.
    fn saw(&self, source: IpAddr) -> bool {
        names(&self.ask(&["alerts", "list", "--all", "-o", "raw"]), source)
    }

    fn blocked(&self) -> usize {
        self.ask(&["decisions", "list", "--limit", "0", "-o", "raw"]).lines().skip(1).count()
    }

    fn remaining(&self, source: IpAddr) -> Option<Duration> {
        let set = listing(self.victim, &["nft", "list", "set", "ip", "crowdsec", "crowdsec-blacklists"]);
        let element = set.split([',', '{', '}']).find(|element| names(element, source))?;
        nft_duration(element.split("expires ").nth(1)?.trim())
    }

    fn cpu(&self) -> Duration {
        self.processes.cpu() + self.log.cpu()
    }

    fn lines_logged(&self) -> Option<usize> {
        Some(self.log.lines())
    }
}

const CONFIGURATION: &str = "
common:
  daemonize: false
  log_media: stdout
  log_level: info
  working_dir: .
config_paths:
  config_dir: FOLDER/
  data_dir: FOLDER/data/
  simulation_path: FOLDER/simulation.yaml
  hub_dir: HUB/
  index_path: HUB/.index.json
  notification_dir: FOLDER/notifications/
  plugin_dir: FOLDER/plugins/
crowdsec_service:
  acquisition_path: FOLDER/acquis.yaml
  parser_routines: 1
cscli:
  output: human
db_config:
  log_level: info
  type: sqlite
  db_path: FOLDER/data/crowdsec.db
api:
  client:
    credentials_path: FOLDER/local_api_credentials.yaml
  server:
    log_level: info
    listen_uri: LOCAL_API
    profiles_path: FOLDER/profiles.yaml
prometheus:
  enabled: false
";

/// As shipped, but for its paths and for staying in the foreground.
const BOUNCER: &str = "
mode: nftables
pid_dir: FOLDER/
update_frequency: 10s
daemonize: false
log_mode: stdout
log_level: info
api_url: http://127.0.0.1:8080/
api_key: KEY
disable_ipv6: false
deny_action: DROP
deny_log: false
supported_decisions_types:
  - ban
nftables:
  ipv4:
    enabled: true
    set-only: false
    table: crowdsec
    chain: crowdsec-chain
  ipv6:
    enabled: true
    set-only: false
    table: crowdsec6
    chain: crowdsec6-chain
";
