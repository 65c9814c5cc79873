//! What is told about a gate that is wrong. The goldens of `tests/policies/bad` show the marked lines as well.

use crate::parse::parse;

const AROUND: &str = r#"policy version=1
interface wan { address "192.0.2.1/24" }
interface lan { address "10.10.0.1/24" }
zone internet { from wan }
zone home { from lan }
set admins { entry "198.51.100.7" }
"#;

/// Every problem of a policy that says `nodes` besides, as one line each.
fn told(nodes: &str) -> Vec<String> {
    match parse("p.kdl", format!("{AROUND}{nodes}").as_bytes()) {
        Ok(_) => vec![],
        Err(report) => report.to_string().lines().map(str::to_owned).collect(),
    }
}

/// Each text of `words` in a gate of its own is told one problem, with the words beside it.
fn refused(whole: &str, words: &[(&str, &str)]) {
    for (words, message) in words {
        let told = told(&format!("reverse-scan shop {{ {whole}; {words} }}"));
        assert!(told.len() == 1 && told[0].contains(message), "`{words}` is told {told:#?}");
    }
}

const GATE: &str = "listen tcp=443 on=wan; backend \"10.10.0.30:443\"";

#[test]
fn settings_end_at_their_bounds() {
    let timeout = "takes a duration from \"10ms\" to \"10s\"";
    let remembered = "takes a duration from \"1m\" to \"30d\"";
    let in_flight = "`in-flight=` takes a whole number from 64 to 10000";
    let per_second = "`per-second=` takes a whole number from 1 to 10000";
    refused(
        GATE,
        &[
            ("timeout \"9ms\"", timeout),
            ("timeout \"10001ms\"", timeout),
            ("timeout \"11s\"", timeout),
            ("timeout 500", "a number with ms, s, m, h, d or w, in quotes"),
            ("remember clean=\"59s\"", remembered),
            ("remember open=\"31d\"", remembered),
            ("budget in-flight=63", in_flight),
            ("budget in-flight=10001", in_flight),
            ("budget per-second=0", per_second),
            ("budget per-second=10001", per_second),
            ("idle \"9s\"", "from \"10s\" to \"7d\""),
            ("idle \"8d\"", "from \"10s\" to \"7d\""),
            ("health every=\"499ms\"", "from \"500ms\" to \"5m\""),
            ("health every=\"301s\"", "from \"500ms\" to \"5m\""),
            ("health every=\"301s\" timeout=\"30s\"", "from \"500ms\" to \"5m\""),
            ("health timeout=\"99ms\"", "from \"100ms\" to \"30s\""),
            ("health every=\"5m\" timeout=\"31s\"", "from \"100ms\" to \"30s\""),
            ("health fall=0", "from 1 to 10"),
            ("health rise=11", "from 1 to 10"),
            ("backend \"10.10.0.31:443\" weight=0", "from 1 to 10"),
            ("backend \"10.10.0.31:443\" weight=11", "from 1 to 10"),
            ("backend \"10.10.0.31:443\" proxy-protocol=3", "from 1 to 2"),
            ("ports 0", "a port from 1 to 65535"),
            ("ports 65536", "a port from 1 to 65535"),
            ("protocol http; deny status=399", "from 400 to 599"),
            ("protocol http; deny status=600", "from 400 to 599"),
            ("on-open block=\"87601h\"", "up to \"87600h\""),
        ],
    );
}

#[test]
fn b02_sixty_five_ports_are_one_too_many() {
    let ports = |count: u16| (1..=count).map(|port| port.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(told(&format!("reverse-scan shop {{ {GATE}; ports {} }}", ports(64))), [""; 0]);
    refused(GATE, &[(&format!("ports {}", ports(65)), "65 ports, and 64 are the most")]);
}

#[test]
fn words_that_mean_nothing_are_suggested_a_better_one() {
    refused(
        GATE,
        &[
            ("preset comprehensiv", "did you mean `comprehensive`?"),
            ("protocl tls", "did you mean `protocol`?"),
            ("protocol udp", "takes `tcp`, `tls` or `http`"),
            ("mode observe", "takes `enforce` or `detect`"),
            ("prove proxi", "did you mean `proxy`?"),
            ("budget then=deny", "takes `admit` or `refuse`"),
            ("ignore admin", "did you mean `admins`?"),
            ("ignore home", "`home` is a zone"),
            ("listen tcp=443 on=hom", "did you mean `home`?"),
            ("listen tcp=443 on=la", "did you mean `lan`?"),
            ("accept-proxy from=edmins", "did you mean `admins`?"),
            ("fast-path source=self", "takes `own` or `client`"),
            ("fast-path established=cut", "takes `keep` or `drop`"),
        ],
    );
}

#[test]
fn nodes_that_say_nothing_or_two_things_are_told() {
    refused(
        GATE,
        &[
            ("ports", "`ports` needs ports of the client"),
            ("budget", "a `budget` of nothing"),
            ("remember", "`remember` needs `clean=` or `open=`"),
            ("ignore", "`ignore` names nobody"),
            ("accept-proxy", "`accept-proxy` needs `from=`"),
            ("health", "`health` changes nothing"),
            ("health #false fall=2", "how to look after backends, and that nobody does"),
            ("fast-path", "`fast-path` does not say what"),
            ("fast-path #false source=own", "how the fast path is, and that there is none"),
            ("deny", "`deny` does not say how"),
            ("deny open", "takes `close`, or a page"),
            ("protocol http; deny close status=403", "both closes and shows a page"),
            ("on-open", "`on-open` needs `block=`"),
            ("preset fast; ports 22", "both say which ports"),
            ("ports 22 80 22", "the port 22 is given twice"),
            ("listen tcp=443 on=wan", "it listens on `wan` already"),
            ("listen tcp=443 on=internet", "it listens on `internet` already"),
            ("listen tcp=444 on=lan", "a gate listens on one port"),
            ("backend \"10.10.0.30\"", "the backend 10.10.0.30:443 is given twice"),
            ("ignore admins; ignore \"10.0.0.1\" admins", "this is named twice"),
            ("mode detect; mode enforce", "`mode` may stand here only once"),
            ("preset fast; preset high", "`preset` may stand here only once"),
            ("ports 22; ports 80", "`ports` may stand here only once"),
            ("deny close; deny close", "`deny` may stand here only once"),
            ("fast-path #true; fast-path #false", "`fast-path` may stand here only once"),
        ],
    );
}

#[test]
fn b10_a_page_is_for_clients_that_read_one() {
    let wrong = "`notice=` takes the address of a page";
    refused(
        GATE,
        &[
            ("deny status=403", "a client of `protocol tcp` cannot be shown a page (write `protocol http`"),
            ("protocol tls; deny contact=\"noc\"", "a client of `protocol tls` cannot be shown a page"),
            ("protocol http; deny notice=\"example.org\"", wrong),
            ("protocol http; deny notice=\"https://\"", wrong),
            ("protocol http; deny notice=\"javascript:alert(1)\"", wrong),
            ("protocol http; deny notice=\"https://a b\"", wrong),
            ("protocol http; deny notice=\"https://a\\\"onclick\"", wrong),
            (&format!("protocol http; deny notice=\"https://{}\"", "a".repeat(505)), wrong),
            (&format!("protocol http; deny contact=\"{}\"", "a".repeat(257)), "256 bytes at most"),
            ("protocol http; deny contact=\"a\\nb\"", "stands on one line"),
        ],
    );
    let longest =
        format!("protocol http; deny notice=\"https://{}\" contact=\"{}\"", "a".repeat(504), "b".repeat(256));
    assert_eq!(told(&format!("reverse-scan shop {{ {GATE}; {longest} }}")), [""; 0]);
}

#[test]
fn b11_server_names_are_as_clients_send_them() {
    let route = |name: &str| format!("protocol tls; route \"{name}\" {{ backend \"10.10.0.4\" }}");
    let long = format!("{}.{}", "a".repeat(63), "b.".repeat(94) + "c");
    assert_eq!(long.len(), 253);
    for good in ["a.example.org", "*.example.org", "localhost", "_x.a-b.org", "A.EXAMPLE.org", &long] {
        assert_eq!(told(&format!("reverse-scan shop {{ {GATE}; {} }}", route(good))), [""; 0], "{good}");
    }
    for (bad, why) in [
        ("", "labels of letters"),
        ("*", "`*` stands for whole labels"),
        ("a.*.org", "`*` stands for whole labels"),
        ("*a.org", "`*` stands for whole labels"),
        ("a..org", "labels of letters"),
        ("-a.org", "labels of letters"),
        ("a b.org", "labels of letters"),
        ("example.org.", "take the dot at the end out"),
        ("münchen.example", "`xn--`"),
        ("192.0.2.7", "clients send no address"),
        (&"a".repeat(64), "labels of letters"),
        (&format!("{long}d"), "labels of letters"),
    ] {
        refused(GATE, &[(&route(bad), why)]);
    }
}

#[test]
fn b11_a_name_that_an_earlier_one_takes_is_told() {
    let routes = |names: &str| format!("protocol tls; route {names} {{ backend \"10.10.0.4\" }}");
    for fine in [
        "\"a.example.org\" \"*.example.org\" \"example.org\"",
        "\"*.b.example.org\" \"b.example.org\" \"*.example.org\"",
        "\"*.example.org\" \"*.example.net\" \"xexample.org\"",
    ] {
        assert_eq!(told(&format!("reverse-scan shop {{ {GATE}; {} }}", routes(fine))), [""; 0], "{fine}");
    }
    refused(
        GATE,
        &[
            (&routes("\"a.example.org\" \"A.example.org\""), "\"a.example.org\" is routed twice"),
            (&routes("\"*.example.org\" \"a.example.org\""), "\"a.example.org\" never leads here"),
            (&routes("\"*.example.org\" \"a.b.example.org\""), "\"a.b.example.org\" never leads here"),
            (&routes("\"*.org\" \"*.example.org\""), "\"*.example.org\" never leads here"),
        ],
    );
}

#[test]
fn b11_routes_belong_to_tls_and_lead_somewhere() {
    let listen = "listen tcp=443 on=wan";
    refused(
        GATE,
        &[
            (
                "protocol http; route \"a\" { backend \"10.10.0.4\" }",
                "`protocol http` has no server name to go by (write `protocol tls`",
            ),
            ("route \"a\" { backend \"10.10.0.4\" }", "`protocol tcp` has no server name to go by"),
            ("protocol tls; route \"a\"", "a route that leads nowhere"),
            ("protocol tls; route { backend \"10.10.0.4\" }", "`route` needs server names"),
            ("protocol tls; routes-only #true; route \"a\" { backend \"10.10.0.4\" }", "never used"),
        ],
    );
    refused(
        listen,
        &[
            ("protocol tls", "a gate that leads nowhere"),
            ("protocol tls; routes-only #true", "`routes-only` without a route lets nobody in"),
            ("protocol tls; route \"a\" { backend \"10.10.0.4\" }", "a gate that leads nowhere"),
            (
                "protocol tls; routes-only #false; route \"a\" { backend \"10.10.0.4\" }",
                "a gate that leads nowhere",
            ),
        ],
    );
}

#[test]
fn b11_routes_names_and_backends_are_bounded() {
    let names = |count: usize| {
        let names: Vec<_> = (0..count).map(|at| format!("n{at}.example.org")).collect();
        format!("protocol tls; route {} {{ backend \"10.10.0.4\" }}", names.join(" "))
    };
    let routes = |count: usize| {
        let route = |at| format!("route n{at}.example.org {{ backend \"10.10.0.4\" }}");
        format!("protocol tls; {}", (0..count).map(route).collect::<Vec<_>>().join("; "))
    };
    let backends = |count: usize| {
        (0..count).map(|at| format!("backend \"10.10.1.{at}:443\"")).collect::<Vec<_>>().join(";")
    };
    for most in [names(1_024), routes(64), backends(31)] {
        assert_eq!(told(&format!("reverse-scan shop {{ {GATE}; {most} }}")), [""; 0]);
    }
    refused(
        GATE,
        &[
            (&names(1_025), "1025 names of one gate, and 1024 are the most"),
            (&routes(65), "more than 64 routes of one gate"),
            (&backends(32), "more than 32 backends share connections"),
        ],
    );
}

#[test]
fn b13_who_is_ignored_is_bounded() {
    let ignore = |count: usize| {
        (0..count)
            .map(|at| format!("ignore \"198.18.{}.{}\"", at / 256, at % 256))
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(told(&format!("reverse-scan shop {{ {GATE}; {} }}", ignore(256))), [""; 0]);
    refused(GATE, &[(&ignore(257), "257 are named here, and 256 are the most")]);
}

#[test]
fn the_doors_of_a_gate_are_bounded() {
    let gate = |count: usize| {
        let name = |at| format!("if{at}");
        let interfaces: Vec<_> = (0..count).map(|at| format!("interface {}\n", name(at))).collect();
        let listen: Vec<_> = (0..count).map(|at| format!("listen tcp=443 on={};", name(at))).collect();
        told(&format!(
            "{}reverse-scan shop {{ {} backend \"10.10.0.30\" }}",
            interfaces.concat(),
            listen.concat()
        ))
    };
    assert_eq!(gate(64), [""; 0]);
    assert!(gate(65)[0].contains("more than 64 zones and interfaces of one gate"));
}

#[test]
fn b13_a_country_wants_a_database_that_tells_it() {
    let ignore = |country: &str, geoip: &str| {
        told(&format!("reverse-scan shop {{ {GATE}; ignore country=\"{country}\" }}\n{geoip}"))
    };
    for geoip in ["geoip { city \"City.mmdb\" }", "geoip { asn \"A.mmdb\"; country \"C.mmdb\" }"] {
        assert_eq!(ignore("DE", geoip), [""; 0]);
    }
    for geoip in ["", "geoip { asn \"ASN.mmdb\" }"] {
        assert!(ignore("DE", geoip)[0].contains("no database of this policy tells countries"), "{geoip}");
    }
    let city = "geoip { city \"City.mmdb\" }";
    for (wrong, hint) in
        [("de", "write \"DE\""), ("UK", "\"GB\""), ("ZZ", "two capital letters"), ("", "two")]
    {
        assert!(ignore(wrong, city)[0].contains(hint), "{:?}", ignore(wrong, city));
    }
}

#[test]
fn b20_a_fast_path_that_cannot_be_is_told() {
    let told = "the kernel cannot lead clients of this gate by itself";
    refused(
        "listen tcp=443 on=wan; fast-path #true",
        &[
            ("backend \"10.10.0.30\" proxy-protocol=2", told),
            ("backend \"10.10.0.30\"; accept-proxy from=admins", told),
            ("protocol tls; routes-only #true; route \"a\" { backend \"10.10.0.30\" }", told),
            ("backend \"127.0.0.1:8443\"", told),
            ("backend \"[::1]:8443\"", told),
            ("backend \"192.0.2.1:8443\"", told),
        ],
    );
}

#[test]
fn b21_a_check_that_outlasts_the_time_between_two_is_told() {
    let told = "the answer is still waited for when the next check is due";
    refused(GATE, &[("health every=\"1s\" timeout=\"1001ms\"", told), ("health timeout=\"2001ms\"", told)]);
}

#[test]
fn a_backend_is_an_address_that_can_be_reached() {
    refused(
        "listen tcp=443 on=wan",
        &[
            ("backend \"shop.example.org:443\"", "names are not looked up"),
            ("backend \"10.10.0.30:0\"", "`backend` takes an address"),
            ("backend \"[fe80::1]:443\"", "is known on one link only"),
            ("backend \"[::ffff:10.0.0.1]:443\"", "(write 10.0.0.1)"),
            ("backend \"0.0.0.0\"", "nothing can be led to 0.0.0.0"),
            ("backend \"224.0.0.1\"", "nothing can be led to 224.0.0.1"),
            ("backend \"255.255.255.255\"", "nothing can be led to 255.255.255.255"),
        ],
    );
}

#[test]
fn a_backend_that_is_a_gate_is_a_loop() {
    refused(
        "listen tcp=443 on=wan",
        &[
            ("backend \"192.0.2.1:443\"", "the backend 192.0.2.1:443 is this gate itself"),
            ("backend \"10.10.0.1\"", "the backend 10.10.0.1:443 is this gate itself"),
            ("backend \"[::1]:443\"", "the backend [::1]:443 is this gate itself"),
        ],
    );
    let two = "reverse-scan a { listen tcp=1 on=wan; backend \"127.0.0.1:2\" }
               reverse-scan b { listen tcp=2 on=wan; backend \"127.0.0.1:3\" }";
    let told = told(two);
    assert!(told.len() == 1 && told[0].contains("the backend 127.0.0.1:2 is the gate `b`"), "{told:#?}");
}

#[test]
fn a_port_is_one_listeners() {
    let gate = |rest: &str| told(&format!("reverse-scan shop {{ {GATE} }}\n{rest}"));
    let one = |rest: &str, message: &str| {
        let told = gate(rest);
        assert!(told.len() == 1 && told[0].contains(message), "`{rest}` is told {told:#?}");
    };
    let other = "reverse-scan other { listen tcp=443 on=lan; backend \"10.10.0.31\" }";
    one(other, "port 443 is that of the gate `shop`");
    one("status { listen tcp=443 on=home }", "port 443 is that of the status page");
    one("nat { forward https in=wan to=\"10.10.0.5\" }", "port 443 is that of the gate `shop`");
    one("nat { forward tcp=\"400-500\" in=wan to=\"10.10.0.5\" }", "port 443 is that of the gate `shop`");
    // Another interface, another protocol: nothing is taken away.
    for fine in ["forward https in=lan to=\"10.10.0.5\"", "forward udp=443 in=wan to=\"10.10.0.5\""] {
        assert_eq!(gate(&format!("nat {{ {fine} }}")), [""; 0], "{fine}");
    }
}

#[test]
fn gates_have_names_of_their_own_and_there_are_sixteen_at_most() {
    let gates = |count: u16| {
        let gate =
            |at| format!("reverse-scan g{at} {{ listen tcp={at} on=wan; backend \"10.10.0.9:443\" }}\n");
        told(&(1..=count).map(gate).collect::<Vec<_>>().concat())
    };
    assert_eq!(gates(16), [""; 0]);
    assert!(gates(17)[0].contains("17 gates, and 16 are the most"));
    let twice = format!(
        "reverse-scan shop {{ {GATE} }}\nreverse-scan shop {{ listen tcp=1 on=wan; backend \"10.10.0.9\" }}"
    );
    let twice = told(&twice);
    assert!(twice.len() == 1 && twice[0].contains("there are two `reverse-scan shop`"), "{twice:#?}");
    for bad in ["a.b", "_a", "1a", "", "ä", &"a".repeat(33)] {
        let told = told(&format!("reverse-scan \"{bad}\" {{ {GATE} }}"));
        assert!(told.len() == 1 && told[0].contains("a letter first"), "{bad:?} is told {told:#?}");
    }
    assert_eq!(told(&format!("reverse-scan {} {{ {GATE} }}", "a".repeat(32))), [""; 0]);
}

#[test]
fn an_empty_gate_is_told_what_it_lacks() {
    let told = told("reverse-scan");
    let lacks = ["`reverse-scan` needs a name", "a gate that listens nowhere", "a gate that leads nowhere"];
    assert_eq!(told.len(), lacks.len(), "{told:#?}");
    for lack in lacks {
        assert!(told.iter().any(|told| told.contains(lack)), "{lack}: {told:#?}");
    }
}
