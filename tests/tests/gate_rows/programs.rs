//! Real servers of Debian, on one of the outside's addresses: proxies, and programs that are none.

use crate::scene::{SOON, Scene, address};
use glacis_tests::daemon::eventually;
use glacis_tests::netns::run;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where all of them listen; a usual port of none.
pub const PORT: u16 = 7005;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Tinyproxy,
    /// With Debian's rules: `CONNECT` to port 443 only.
    Squid,
    Danted,
    /// It speaks version 4 only.
    DantedFour,
    Microsocks,
    Nginx,
    Sshd,
}

/// A running program and what it left behind; its whole process group ends on drop.
pub struct Running {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Running {
    /// # Panics
    /// When it is not installed or does not listen.
    pub fn start(scene: &Scene, program: Program, host: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        // Some give up root before they write there.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let argv = prepare(program, host, folder.path());
        let mut command = scene.outside.command(&argv);
        let output = fs::File::create(folder.path().join("output")).expect("the folder takes a file");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a descriptor can be duplicated"));
        let child = command.stderr(output).process_group(0).spawn().expect("ip starts");
        let running = Self { child, _folder: folder };
        let to = SocketAddr::new(address(host), PORT);
        eventually(&format!("{program:?} listens"), SOON, || {
            scene.outside.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(1))).is_ok()
        });
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Writes its configuration and says how to start it.
fn prepare(program: Program, host: &str, folder: &Path) -> Vec<String> {
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).expect("the folder takes a file");
        path.to_str().expect("a temporary folder has a plain name").to_owned()
    };
    let folder_name = folder.display();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    match program {
        Program::Tinyproxy => {
            let text = format!("User nobody\nPort {PORT}\nListen {host}\nTimeout 60\nMaxClients 20\n");
            words(&["tinyproxy", "-d", "-c", &file("tinyproxy.conf", text)])
        }
        Program::Squid => {
            let shipped = fs::read_to_string("/etc/squid/squid.conf").expect("squid is installed");
            let text = shipped
                .replace("http_port 3128", &format!("http_port {host}:{PORT}"))
                .replace("http_access deny all", "http_access allow all");
            let text = format!(
                "{text}\npid_filename none\naccess_log none\ncache_log {folder_name}/cache.log\n\
                 cache_store_log none\ncoredump_dir {folder_name}\nnetdb_filename none\npinger_enable off\nshutdown_lifetime 0 seconds\n"
            );
            words(&["squid", "-N", "-f", &file("squid.conf", text)])
        }
        Program::Danted | Program::DantedFour => {
            let version = if program == Program::Danted { "" } else { "proxyprotocol: socks_v4" };
            let text = format!(
                "logoutput: {folder_name}/log\ninternal: {host} port = {PORT}\nexternal: {host}\n\
                 clientmethod: none\nsocksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n\
                 client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
                 socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 {version} }}\n"
            );
            words(&["danted", "-N", "1", "-f", &file("danted.conf", text)])
        }
        Program::Microsocks => words(&["microsocks", "-i", host, "-p", &PORT.to_string()]),
        Program::Nginx => {
            let text = format!(
                "daemon off;\nmaster_process off;\npid {folder_name}/pid;\nerror_log {folder_name}/error.log;\n\
                 events {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path {folder_name}/body;\n\
                 proxy_temp_path {folder_name}/proxy;\nfastcgi_temp_path {folder_name}/fastcgi;\n\
                 uwsgi_temp_path {folder_name}/uwsgi;\nscgi_temp_path {folder_name}/scgi;\n\
                 server {{ listen {host}:{PORT}; root {folder_name}; }}\n}}\n"
            );
            words(&["nginx", "-c", &file("nginx.conf", text)])
        }
        Program::Sshd => {
            // Where it separates privileges; Debian makes it at boot.
            fs::create_dir_all("/run/sshd").expect("/run is ours");
            let key = folder.join("key").display().to_string();
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]));
            let text = format!("ListenAddress {host}\nPort {PORT}\nHostKey {key}\nPidFile none\n");
            words(&["/usr/sbin/sshd", "-D", "-e", "-f", &file("sshd_config", text)])
        }
    }
}
