//! The victim's firewall log in a file, as rsyslog writes it: what psad, fail2ban and `CrowdSec` read.

use crate::network::load_logging_firewall;
use crate::peer::ProcessGroup;
use glacis_tests::netns::Namespace;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lets `LOG` rules of namespaces other than the first write to the kernel's log.
const ALL_NAMESPACES: &str = "/proc/sys/net/netfilter/nf_log_all_netns";

pub struct KernelLog {
    file: PathBuf,
    prefix: String,
    allowed_before: String,
    daemon: ProcessGroup,
}

impl KernelLog {
    /// Starts a log daemon that copies the firewall's lines from the kernel's log.
    pub fn start(victim: &Namespace, folder: &Path) -> Self {
        let allowed_before = fs::read_to_string(ALL_NAMESPACES).expect("nf_log is in this kernel");
        fs::write(ALL_NAMESPACES, "1").expect("root may set it");
        let file = folder.join("kern.log");
        fs::write(&file, "").expect("the folder is ours");
        // At most 29 characters, and its own for each run: the kernel's log is everyone's.
        let prefix = format!("{} DROP ", victim.name());
        let configuration = folder.join("rsyslog.conf");
        let text = format!(
            r#"global(workDirectory="{folder}" net.enableDNS="off")
module(load="imkmsg")
template(name="line" type="list") {{
    property(name="timereported" dateFormat="rfc3164") constant(value=" victim kernel:")
    property(name="msg" spifno1stsp="on") property(name="msg") constant(value="\n")
}}
if $msg contains "{prefix}" then action(type="omfile" file="{file}" template="line")
"#,
            folder = folder.display(),
            file = file.display(),
        );
        fs::write(&configuration, text).expect("the folder is ours");
        let mut daemon = ProcessGroup::new("log");
        let pid_file = folder.join("rsyslog.pid");
        let argv = ["rsyslogd", "-n", "-f", path(&configuration), "-i", path(&pid_file)];
        daemon.spawn(victim, &argv, &folder.join("rsyslog.out"));
        std::thread::sleep(Duration::from_secs(1));
        Self { file, prefix, allowed_before, daemon }
    }

    /// Loads the victim's ruleset where it is not loaded.
    pub fn load_firewall(&self, victim: &Namespace) {
        if !victim.stdout(["iptables-save"]).contains("-j LOG") {
            load_logging_firewall(victim, &self.prefix);
        }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn prefix(&self) -> &str {
        self.prefix.trim_end()
    }

    pub fn cpu(&self) -> Duration {
        self.daemon.cpu()
    }

    pub fn lines(&self) -> usize {
        fs::read_to_string(&self.file).map_or(0, |text| text.lines().count())
    }
}

impl Drop for KernelLog {
    fn drop(&mut self) {
        let _ = fs::write(ALL_NAMESPACES, self.allowed_before.trim());
    }
}

/// A path as text; all of ours are.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("paths of ours are UTF-8")
}
