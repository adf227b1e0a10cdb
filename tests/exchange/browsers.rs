//! Pages and names: who may ask from a browser, and to which name a request must have been sent.

use stenograph::gateway::connection::Connection;
use stenograph::gateway::secure::Secured;
use stenograph::record::Kind;

use super::script::{Script, call, json_answer, result};
use super::stage::Plan;

const PAGE: &str = "https://ide.example.com";

fn with_page() -> Script {
    Script::new(Plan { origins: vec![PAGE.to_owned()], ..Plan::default() })
}

fn preflight(origin: &str, headers: &str) -> String {
    format!(
        "OPTIONS /codegen HTTP/1.1\r\nHost: g\r\nOrigin: {origin}\r\n\
         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: {headers}\r\n\r\n"
    )
}

fn from(origin: &str, request: &str) -> String {
    request.replace("Host: g\r\n", &format!("Host: g\r\nOrigin: {origin}\r\n"))
}

/// Names of a list in a field, in lower case.
fn listed(value: Option<&str>) -> Vec<String> {
    value.unwrap_or_default().split(',').map(|name| name.trim().to_ascii_lowercase()).collect()
}

// Checked against the mutant "any origin is echoed": `origin_is_let_in` is always true.
#[test]
fn a_preflight_is_answered_without_a_token_and_goes_nowhere() {
    with_page()
        .client(preflight(PAGE, "authorization,mcp-method,mcp-param-region, x-else"))
        .expect_answer(204, |answer| {
            assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(PAGE));
            assert_eq!(answer.field("Vary"), Some("Origin"));
            assert_eq!(answer.field("Access-Control-Max-Age"), Some("600"));
            let methods = listed(answer.field("Access-Control-Allow-Methods"));
            assert_eq!(methods, ["post", "get", "delete"]);
            let headers = listed(answer.field("Access-Control-Allow-Headers"));
            for name in
                ["authorization", "content-type", "last-event-id", "mcp-session-id", "mcp-name"]
            {
                assert!(headers.iter().any(|one| one == name), "{name} {headers:?}");
            }
            assert!(headers.contains(&"mcp-protocol-version".to_owned()));
            assert!(headers.contains(&"mcp-param-region".to_owned()), "{headers:?}");
            assert!(!headers.contains(&"x-else".to_owned()), "{headers:?}");
            assert_eq!(answer.field("Access-Control-Allow-Credentials"), None);
        })
        .expect_nothing()
        .expect_recorded(Kind::Answer, &["\"options\""])
        // One that is foreign learns nothing, not even that it may not.
        .client(preflight("https://evil.example.com", "authorization"))
        .expect_answer(403, |answer| {
            assert!(!answer.head.contains("Access-Control"), "{answer:?}");
        })
        .expect_nothing()
        .expect_recorded(Kind::Refusal, &["\"origin\""])
        .end();
}

#[test]
fn preflights_beyond_a_rate_are_counted() {
    let mut plan = Plan { origins: vec![PAGE.to_owned()], ..Plan::default() };
    plan.limits.refusals_each_max = 2;
    let mut script = Script::new(plan);
    for _ in 0..5 {
        script = script
            .client(preflight(PAGE, "authorization"))
            .expect_answer(204, |_| {})
            .expect_nothing();
    }
    script.stage.settle();
    assert_eq!(script.stage.record().len(), 2);
    script.end();
}

#[test]
fn a_listed_page_reads_answers_and_challenges() {
    let script = with_page();
    let token = script.stage.token("alice", 600);
    let request = from(PAGE, &call(&token, 1, "echo", "x"));
    let bare = request.replace(&format!("Authorization: Bearer {token}\r\n"), "");
    script
        .client(request)
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["POST /mcp"])
        .upstream(json_answer("Access-Control-Allow-Origin: *\r\n", &result(1, "ok")))
        .expect_answer(200, |answer| {
            assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(PAGE));
            assert!(!answer.head.contains('*'), "what the server says of origins stays there");
            assert_eq!(answer.field("Vary"), Some("Origin"));
            let shown = listed(answer.field("Access-Control-Expose-Headers"));
            for name in [
                "mcp-session-id",
                "www-authenticate",
                "stenograph-exchange",
                "mcp-protocol-version",
            ] {
                assert!(shown.iter().any(|one| one == name), "{name} {shown:?}");
            }
        })
        .client(bare)
        .expect_answer(401, |answer| {
            assert_eq!(answer.field("Access-Control-Allow-Origin"), Some(PAGE));
            assert!(answer.field("WWW-Authenticate").is_some());
        })
        .expect_nothing()
        .end();
}

// Checked against the mutant "Host is not looked at" (`host_is_ours` is always true): the page that
// rebinds sends a Host and an Origin that agree.
#[test]
fn a_name_that_is_not_ours_is_nobodys() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = call(&token, 1, "echo", "x");
    let to = |host: &str| request.replace("Host: g\r\n", &format!("Host: {host}\r\n"));
    let mut script = script;
    for host in ["evil.example.com", "evil.example.com:8080", "g.evil.example.com", "gg", "0x7f.1"]
    {
        let rebound = to(host).replace("\r\nAuth", &format!("\r\nOrigin: http://{host}\r\nAuth"));
        script = script
            .client(to(host))
            .expect_answer(421, |_| {})
            .expect_nothing()
            .client(rebound)
            .expect_answer(421, |answer| assert!(!answer.head.contains("Access-Control")))
            .expect_nothing();
    }
    for host in ["g", "G:8080", "mcp.example.com", "mcp.example.com.", "localhost:1", "127.0.0.1"] {
        script = script
            .client(to(host))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["Host: upstream.internal:3001\r\n"])
            .upstream(json_answer("", &result(1, "ok")))
            .expect_answer(200, |_| {});
    }
    script
        .client(to("[::1]:8080"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .end();
}

#[test]
fn the_gateways_own_origin_is_no_foreign_one() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = call(&token, 1, "echo", "x").replace("Host: g\r\n", "Host: localhost:8080\r\n");
    let of = |origin: &str| {
        request.replace("\r\nAuthorization", &format!("\r\nOrigin: {origin}\r\nAuthorization"))
    };
    script
        .client(of("http://localhost:8080"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        // Another port of the same host is another page.
        .client(of("http://localhost:9090"))
        .expect_answer(403, |_| {})
        .expect_nothing()
        .client(of("null"))
        .expect_answer(403, |_| {})
        .expect_nothing()
        .end();
}

// Checked against the mutant "both schemes are our own" (`tls` is not looked at): somebody on the path
// serves a page in plain HTTP under our name.
#[test]
fn where_tls_ends_here_a_page_in_plain_http_is_a_foreign_one() {
    let mut script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let secured = Secured {
        version: "TLSv1.3",
        suite: "TLS13_AES_128_GCM_SHA256",
        server_name: None,
        resumed: false,
        exporter: None,
        certificate: None,
    };
    let source = "192.0.2.7:40000".parse().unwrap();
    script.rig.connection = Connection::new(source, 0, script.stage.now).secured(secured);
    let of = |origin: &str| {
        let request = call(&token, 1, "echo", "x");
        request.replace("\r\nAuthorization", &format!("\r\nOrigin: {origin}\r\nAuthorization"))
    };
    script
        .client(of("http://g"))
        .expect_answer(403, |_| {})
        .expect_nothing()
        .client(of("https://g"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .end();
}
