//! Vertical, horizontal and slow scans, each told by what it touched.

use crate::scene::*;

fn scan(shapes: &str) -> String {
    format!("scan {{ interfaces g0; {shapes}; auto-block {{ threshold 10000; duration \"1h\" }} }}")
}

#[test]
fn a27_many_ports_are_a_vertical_scan() {
    let scene = Scene::new();
    let daemon =
        daemon(&scene, &scan("vertical ports=15 within=\"60s\"; horizontal hosts=20 within=\"60s\""));
    scene.nmap(SCANNER, &["-sS", "-p", "7001-7030"]);
    let reason = &wait_ban(&daemon, &format!("{SCANNER}/32"))["reason"];
    assert_eq!(reason["shape"], "vertical", "{reason:#?}");
    assert!(reason["ports"].as_u64() >= Some(15), "{reason:#?}");
}

#[test]
fn a27_many_addresses_are_a_horizontal_scan() {
    let scene = Scene::new();
    let daemon =
        daemon(&scene, &scan("vertical ports=15 within=\"60s\"; horizontal hosts=20 within=\"60s\""));
    scene.nmap_at(SCANNER, MORE_ADDRESSES, &["-sS", "-p", "7001"]);
    let reason = &wait_ban(&daemon, &format!("{SCANNER}/32"))["reason"];
    assert_eq!(reason["shape"], "horizontal", "{reason:#?}");
    assert!(reason["hosts"].as_u64() >= Some(20), "{reason:#?}");
}

#[test]
fn a27_many_ports_over_a_long_time_are_a_slow_scan() {
    let scene = Scene::new();
    let daemon = daemon(&scene, &scan("vertical ports=15 within=\"10s\"; slow ports=20 within=\"10m\""));
    // One port a second: no ten seconds hold fifteen.
    scene.nmap(SCANNER, &["-sS", "-p", "7001-7024", "--scan-delay", "1s", "--max-scan-delay", "1s"]);
    let reason = &wait_ban(&daemon, &format!("{SCANNER}/32"))["reason"];
    assert_eq!(reason["shape"], "slow", "{reason:#?}");
}

#[test]
fn a27_one_port_over_and_over_has_no_shape() {
    let scene = Scene::new();
    let daemon =
        daemon(&scene, &scan("vertical ports=15 within=\"60s\"; horizontal hosts=20 within=\"60s\""));
    for _ in 0..200 {
        scene.syns(SCANNER, [7001]);
    }
    wait_records(&daemon, SCANNER, "all hits", |rows| rows.first().is_some_and(|row| row["hits"] == 200));
    assert_eq!(daemon.blocks().as_array().unwrap().len(), 0, "{:#?}", daemon.blocks());
}
