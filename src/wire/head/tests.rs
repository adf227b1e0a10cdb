//! Tests of heads: parts, framing, refusals, and what is written. The long lists of refusals are in `tests/vectors/http1`.

use super::*;

fn read(text: &str) -> Read<Request, HeadFault> {
    read_request(text.as_bytes(), &Limits::default(), &mut Fields::new())
}

fn refused(text: &str) -> Option<(HeadRule, u32)> {
    match read(text) {
        Read::Broken(fault) => Some((fault.rule, fault.at)),
        _ => None,
    }
}

fn answer(text: &str) -> Result<Response, (HeadRule, u32)> {
    match read_response(text.as_bytes(), &Limits::default(), Method::Post, &mut Fields::new()) {
        Read::Done { value, .. } => Ok(value),
        Read::Broken(fault) => Err((fault.rule, fault.at)),
        Read::More => panic!("complete"),
    }
}

#[test]
fn a_request_gives_its_parts_as_positions() {
    let text = "POST /mcp?a=b HTTP/1.1\r\nHost: h:80\r\nContent-Length: 12\r\nX: \t y \r\nAccept: a\r\naccept: b\r\n\r\nrest";
    let mut fields = Fields::new();
    let bytes = text.as_bytes();
    let Read::Done { value, used } = read_request(bytes, &Limits::default(), &mut fields) else {
        panic!("good")
    };
    assert_eq!(&bytes[used..], b"rest");
    assert_eq!((value.method, value.path.of(bytes)), (Method::Post, &b"/mcp"[..]));
    assert_eq!(value.query.map(|span| span.of(bytes)), Some(&b"a=b"[..]));
    assert_eq!(value.framing, Framing::Length(12));
    assert!(value.keep_alive && !value.expect_continue);
    assert_eq!(fields.get(bytes, Name::Host), Some(&b"h:80"[..]));
    assert_eq!(fields.all(bytes, Name::Accept).collect::<Vec<_>>(), [b"a", b"b"]);
    let odd = fields.iter(bytes).find(|field| field.name == b"X").expect("kept");
    assert_eq!((odd.value, odd.known), (&b"y"[..], None));
    assert_eq!(odd.value_span.of(bytes), b"y");
}

#[test]
fn what_follows_decides_nothing() {
    assert_eq!(read("GET / HTTP/1.1\r\nHost: h\r\n\r"), Read::More);
    assert_eq!(read(""), Read::More);
    assert_eq!(refused("\u{16}\u{3}\u{1}"), Some((HeadRule::RequestLine, 0)));
    assert_eq!(refused("GET / HTTP/1.1\nHost: h\n"), Some((HeadRule::BareLf, 14)));
}

#[test]
fn connection_and_expect_are_understood() {
    let read = |fields: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        match read(&text) {
            Read::Done { value, .. } => Ok((value.keep_alive, value.expect_continue)),
            Read::Broken(fault) => Err(fault.rule),
            Read::More => panic!("complete"),
        }
    };
    assert_eq!(read(""), Ok((true, false)));
    assert_eq!(read("Connection: keep-alive, Close\r\n"), Ok((false, false)));
    assert_eq!(read("Connection: x\r\nConnection: close\r\n"), Ok((false, false)));
    assert_eq!(read("Connection: , te\r\n"), Ok((true, false)));
    assert_eq!(read("Expect: 100-Continue\r\n"), Ok((true, true)));
    assert_eq!(read("Expect: 200-ok\r\n"), Err(HeadRule::Expect));
    assert_eq!(read("Upgrade: h2c\r\n"), Err(HeadRule::Upgrade));
    assert_eq!(read("Connection: upgrade\r\n"), Err(HeadRule::Upgrade));
    assert_eq!(read("Connection: authorization\r\n"), Err(HeadRule::ConnectionOption));
    assert_eq!(read("Connection: a b\r\n"), Err(HeadRule::ConnectionForm));
}

#[test]
fn responses_end_where_their_status_and_fields_say() {
    let framing = |text: &str| answer(text).map(|head| (head.framing, head.keep_alive));
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{ok}Transfer-Encoding: Chunked\r\n\r\n");
    assert_eq!(framing(&chunked), Ok((Framing::Chunked, true)));
    assert_eq!(framing(&format!("{ok}\r\n")), Ok((Framing::UntilClose, false)));
    let closing = format!("{ok}Content-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(framing(&closing), Ok((Framing::Length(0), false)));
    assert_eq!(framing("HTTP/1.1 204\r\nContent-Length: 0\r\n\r\n"), Ok((Framing::Empty, true)));
    assert_eq!(framing("HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n"), Ok((Framing::Empty, true)));
    assert_eq!(answer("HTTP/1.1 100 Continue\r\n\r\n").map(|head| head.status), Ok(100));
    for (text, rule, at) in [
        ("HTTP/1.1 204 x\r\nContent-Length: 9\r\n\r\n", HeadRule::BodyForbidden, 16),
        ("HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n", HeadRule::BodyForbidden, 16),
        ("HTTP/1.1 101 x\r\n\r\n", HeadRule::SwitchingProtocols, 9),
        ("HTTP/1.1 600 x\r\n\r\n", HeadRule::Status, 9),
        ("HTTP/1.1 099 x\r\n\r\n", HeadRule::Status, 9),
        ("HTTP/1.1 2000 x\r\n\r\n", HeadRule::StatusLine, 8),
        ("HTTP/1.1  200 x\r\n\r\n", HeadRule::StatusLine, 8),
        ("HTTP/1.1\r\n\r\n", HeadRule::StatusLine, 8),
        ("HTTP/1.0 200 x\r\n\r\n", HeadRule::VersionOld, 0),
        ("HTTP/2.0 200 x\r\n\r\n", HeadRule::Version, 0),
        ("HTTX/1.1 200 x\r\n\r\n", HeadRule::StatusLine, 3),
        (
            "HTTP/1.1 200 x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadRule::LengthWithEncoding,
            35,
        ),
        (
            "HTTP/1.1 200 x\r\nContent-Type: a\r\ncontent-type: a\r\n\r\n",
            HeadRule::DuplicateField,
            33,
        ),
        (
            "HTTP/1.1 200 x\r\nMcp-Session-Id: a\r\nmcp-session-id: a\r\n\r\n",
            HeadRule::DuplicateRouting,
            35,
        ),
    ] {
        assert_eq!(answer(text), Err((rule, at)), "{text:?}");
    }
}

#[test]
fn heads_are_written_so_that_they_read_the_same() {
    let mut out = bytes::BytesMut::new();
    let writer = Writer::request(&mut out, Method::Post, b"/mcp?x=1").expect("good");
    writer.field("Host", b"h").expect("good").length(u64::MAX).end();
    assert_eq!(
        &out[..],
        b"POST /mcp?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551615\r\n\r\n"
    );
    out.clear();
    Writer::response(&mut out, 202).length(0).end();
    assert_eq!(&out[..], b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    for (name, value) in [
        ("", &b"v"[..]),
        ("a b", b"v"),
        ("A", b"v\r\nB: c"),
        ("A", b"\n"),
        ("A", b"\0"),
        ("A\r\n", b""),
    ] {
        let refused = Writer::response(&mut out, 200).field(name, value).err();
        assert_eq!(refused, Some(NotWritable), "{name:?} {value:?}");
    }
    assert!(Writer::request(&mut out, Method::Get, b"/a b").is_err());
    assert!(Writer::request(&mut out, Method::Get, b"").is_err());
}

#[test]
fn media_types_are_exact() {
    for (value, kind) in [
        ("application/json", Media::Json),
        ("Application/JSON ; charset=UTF-8", Media::Json),
        ("application/json;charset=\"utf-8\";", Media::Json),
        ("text/event-stream; charset=utf-8", Media::EventStream),
        ("application/json; charset=utf-16", Media::Other),
        ("application/json; charset=utf-7", Media::Other),
        ("application/json; v=1", Media::Other),
        ("application/json-rpc", Media::Other),
        ("application/jsonx", Media::Other),
        ("text/plain, application/json", Media::Other),
        ("", Media::Other),
    ] {
        assert_eq!(media(value.as_bytes()), kind, "{value}");
    }
    let both = Accepts { json: true, events: true };
    assert_eq!(accepts(b"application/json, text/event-stream"), both);
    assert_eq!(accepts(b"*/*;q=0.1"), both);
    assert_eq!(accepts(b"application/*"), Accepts { json: true, events: false });
    assert_eq!(accepts(b"TEXT/event-stream;q=0.5"), Accepts { json: false, events: true });
    assert_eq!(accepts(b"application/json;q=0.0, text/html"), Accepts::default());
    assert_eq!(accepts(b""), Accepts::default());
}

#[test]
fn a_warm_storage_does_not_grow_and_forgets_the_last_head() {
    let mut fields = Fields::new();
    let one = b"GET / HTTP/1.1\r\nHost: h\r\nOrigin: o\r\n\r\n";
    let two = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(matches!(read_request(one, &Limits::default(), &mut fields), Read::Done { .. }));
    assert!(fields.get(one, Name::Origin).is_some() && fields.len() == 2);
    assert!(matches!(read_request(two, &Limits::default(), &mut fields), Read::Done { .. }));
    assert!(fields.get(two, Name::Origin).is_none() && fields.len() == 1);
}

#[test]
fn rules_have_distinct_names() {
    let mut names: Vec<_> = HeadRule::ALL.iter().map(|rule| rule.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), HeadRule::ALL.len());
}

#[test]
fn a_mirrored_argument_that_becomes_another_is_refused() {
    let judge = |one: &str, other: &str| {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{one}: 1\r\n{other}: 2\r\n\r\n");
        let mut fields = Fields::new();
        match read_request(head.as_bytes(), &Limits::default(), &mut fields) {
            Read::Done { .. } => None,
            Read::Broken(fault) => Some((fault.rule, fault.at as usize - 26 - one.len() - 5)),
            Read::More => panic!("it is whole"),
        }
    };
    let refused = Some((HeadRule::LookAlikeField, 0));
    assert_eq!(judge("Mcp-Param-a-b", "Mcp-Param-a_b"), refused);
    assert_eq!(judge("mcp-param-A_B", "Mcp-Param-a-b"), refused);
    assert_eq!(judge("Mcp-Param-a.b", "Mcp-Param-a-b"), refused);
    assert_eq!(judge("Mcp-Param-ab", "Mcp-Param-a-b"), None);
    assert_eq!(judge("Mcp-Param-a_b", "Mcp-Param-a_c"), None);
    let same = judge("Mcp-Param-a_b", "MCP-PARAM-A_B");
    assert_eq!(same, Some((HeadRule::DuplicateRouting, 0)));
}
