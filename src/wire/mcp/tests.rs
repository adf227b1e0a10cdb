//! Tests of the envelope: classes, targets, lists, places.

use super::*;
use crate::types::Direction::{Request, Response};

fn from(direction: Direction, text: &str) -> Result<Message, (McpRule, u32)> {
    read(text.as_bytes(), direction, &Limits::default(), &mut json::Scratch::new())
        .map_err(|fault| (fault.rule, fault.at))
}

fn told(bytes: &str, text: Option<Text>) -> Option<String> {
    text.map(|text| text.decode(bytes.as_bytes()).into_owned())
}

#[test]
fn a_tool_call_is_read_whatever_the_order() {
    let text = r#"{"params":{"_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}},"arguments":{"name":"x","Name":1,"method":2},"name":"ec\u0068o"},"id":"a\"b","method":"tools\/call","jsonrpc":"2.0"}"#;
    let message = from(Request, text).expect("a good call");
    let raw = |span: Option<Span>| span.map(|span| &text[span.range()]);
    assert_eq!(message.class, Class::Request);
    assert!(message.is_method(text.as_bytes(), "tools/call"));
    assert_eq!(message.targets.len(), 1);
    assert_eq!(message.targets[0].kind, TargetKind::Tool);
    assert_eq!(message.targets[0].text.decode(text.as_bytes()), "echo");
    assert!(!message.targets_unclear);
    assert_eq!(raw(message.arguments), Some(r#"{"name":"x","Name":1,"method":2}"#));
    assert_eq!(raw(message.progress_token), Some("7"));
    assert_eq!(told(text, message.protocol_version).as_deref(), Some("2026-07-28"));
    assert_eq!(told(text, message.client_name).as_deref(), Some("c"));
    let id = message.id.expect("an id");
    assert_eq!(
        (id.decode(text.as_bytes()).as_ref(), raw(Some(id.span))),
        ("a\"b", Some(r#""a\"b""#))
    );
}

#[test]
fn every_method_of_the_table_finds_its_target() {
    for row in METHODS {
        let (params, targets): (&str, &[(TargetKind, &str)]) = match row.target {
            TargetRule::None => (r#"{"name":"n","uri":"u"}"#, &[]),
            TargetRule::Name(TargetKind::Tool) => (r#"{"name":"n"}"#, &[(TargetKind::Tool, "n")]),
            TargetRule::Name(_) => (r#"{"name":"n"}"#, &[(TargetKind::Prompt, "n")]),
            TargetRule::Uri => (r#"{"name":"n","uri":"u"}"#, &[(TargetKind::Resource, "u")]),
            TargetRule::TaskId => (r#"{"taskId":"t"}"#, &[(TargetKind::Task, "t")]),
            TargetRule::Ref => {
                (r#"{"ref":{"type":"ref/prompt","name":"n"}}"#, &[(TargetKind::Prompt, "n")])
            }
            TargetRule::Filter => (
                r#"{"notifications":{"taskIds":["t"],"x":true,"resourceSubscriptions":["u","v"]}}"#,
                &[
                    (TargetKind::Task, "t"),
                    (TargetKind::Resource, "u"),
                    (TargetKind::Resource, "v"),
                ],
            ),
        };
        let id = if row.request { r#""id":1,"# } else { "" };
        let text = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{}","params":{params}}}"#, row.name);
        let message = from(Request, &text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
        let found: Vec<_> = message
            .targets
            .iter()
            .map(|target| (target.kind, target.text.decode(text.as_bytes())))
            .collect();
        let wanted: Vec<_> = targets.iter().map(|(kind, name)| (*kind, (*name).into())).collect();
        assert_eq!(found, wanted, "{text}");
        assert_eq!(message.known, Some(row));
        assert!(!message.targets_unclear);
        let bare = format!(r#"{{"jsonrpc":"2.0",{id}"method":"{}","params":{{}}}}"#, row.name);
        let message = from(Request, &bare).expect("nothing wrong in itself");
        assert_eq!(message.targets_unclear, row.target != TargetRule::None, "{bare}");
    }
}

#[test]
fn completions_name_one_thing() {
    let read = |reference: &str| {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{{"ref":{reference}}}}}"#
        );
        from(Request, &text).map(|message| {
            let target = message.targets.first();
            let name = target.map(|t| (t.kind, t.text.decode(text.as_bytes()).into_owned()));
            assert_eq!(message.targets_unclear, name.is_none());
            name
        })
    };
    let resource = Some((TargetKind::Resource, "u".to_string()));
    assert_eq!(read(r#"{"uri":"u","type":"ref/resource"}"#), Ok(resource));
    assert_eq!(read(r#"{"type":"ref/other","name":"n"}"#), Ok(None));
    assert_eq!(read(r#"{"type":"ref/prompt"}"#), Ok(None));
    assert_eq!(read(r#"{"name":"n"}"#), Ok(None));
    assert_eq!(read("null"), Ok(None));
    let refused = |reference| read(reference).map_err(|(rule, _)| rule);
    let both = r#"{"type":"ref/prompt","name":"n","uri":"u"}"#;
    assert_eq!(refused(both), Err(McpRule::TargetKind));
    assert_eq!(refused(r#"{"type":"ref/prompt","name":1}"#), Err(McpRule::TargetKind));
}

#[test]
fn lists_are_known_by_their_shape() {
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","inputSchema":{"name":"x","tools":[1]}}, 7 ,{"name":3},{"title":"t","name":"b"}],"resourceTemplates":[{"name":"n","uriTemplate":"u/{x}"}],"resources":[],"cacheScope":"public","nextCursor":"c"}}"#;
    let message = from(Response, text).expect("a good answer");
    let lists: Vec<_> = message
        .lists
        .iter()
        .map(|list| {
            let items: Vec<_> = list
                .items
                .iter()
                .map(|item| (&text[item.span.range()], told(text, item.name)))
                .collect();
            (list.kind, &text[list.array.range()], items)
        })
        .collect();
    assert_eq!(lists.len(), 3);
    let (kind, array, items) = &lists[0];
    assert_eq!(*kind, ListKind::Tools);
    assert!(array.starts_with("[{\"name\":\"a\"") && array.ends_with("\"b\"}]"));
    let names: Vec<_> = items.iter().map(|(_, name)| name.as_deref()).collect();
    assert_eq!(names, [Some("a"), None, None, Some("b")]);
    assert_eq!((items[1].0, items[2].0), ("7", "{\"name\":3}"));
    assert_eq!(lists[1].2[0].1.as_deref(), Some("u/{x}"));
    assert_eq!((lists[2].0, lists[2].1), (ListKind::Resources, "[]"));
    assert_eq!(message.cache_scope.map(|span| &text[span.range()]), Some("\"public\""));
    assert!(!message.result_empty);
    let empty = r#"{"jsonrpc":"2.0","id":1,"result":{ }}"#;
    assert!(from(Response, empty).expect("good").result_empty);
    let odd = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":{"a":1}}}"#;
    assert_eq!(from(Response, odd), Err((McpRule::ListKind, 42)));
}

#[test]
fn errors_of_servers_may_lack_an_id_and_those_of_clients_not() {
    for (id, server, client) in [
        (r#""id":null,"#, Ok(()), Err(McpRule::IdKind)),
        ("", Ok(()), Err(McpRule::IdMissing)),
        (r#""id":"server-error","#, Ok(()), Ok(())),
        (r#""id":1.5,"#, Err(McpRule::IdKind), Err(McpRule::IdKind)),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":-32600,"message":"m"}}}}"#);
        let judge = |direction| from(direction, &text).map(|_| ()).map_err(|(rule, _)| rule);
        assert_eq!((judge(Response), judge(Request)), (server, client), "{text}");
    }
}

#[test]
fn the_id_is_given_back_with_the_fault_when_it_can_be_trusted() {
    let fault = |text: &str| {
        read(text.as_bytes(), Request, &Limits::default(), &mut json::Scratch::new())
            .expect_err("refused")
            .id
            .map(|id| text[id.span.range()].to_string())
    };
    assert_eq!(fault(r#"{"method":1,"jsonrpc":"2.0","id":5}"#).as_deref(), Some("5"));
    assert_eq!(fault(r#"{"id":"x","jsonrpc":"1.0","method":"m"}"#).as_deref(), Some("\"x\""));
    assert_eq!(fault(r#"{"id":5,"id":5,"jsonrpc":"2.0","method":"m"}"#), None);
    assert_eq!(fault(r#"{"id":5.5,"jsonrpc":"2.0","method":"m"}"#), None);
}

#[test]
fn ids_are_the_same_when_they_say_the_same() {
    let id = |text: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{text},"method":"ping"}}"#);
        (from(Request, &text).expect("good").id.expect("an id"), text)
    };
    let same = |a: &str, b: &str| {
        let ((a, a_text), (b, b_text)) = (id(a), id(b));
        a.same(a_text.as_bytes(), &b, b_text.as_bytes())
    };
    assert!(same("1", "1") && same(r#""a""#, r#""\u0061""#));
    assert!(!same("1", r#""1""#) && !same("1", "2"));
}

#[test]
fn places_tell_content_from_what_must_stay() {
    let text = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"t","requestState":"s","arguments":{"taskId":"v","n":5,"requestState":"w","jsonrpc":"y"},"_meta":{"progressToken":"p","x":"z"},"inputResponses":{"k":{"method":"q"}}}}"#;
    let mut out = Vec::new();
    places(text.as_bytes(), usize::MAX, &mut out).expect("JSON");
    let of = |wanted: Place| -> Vec<&str> {
        let hits = out.iter().filter(|(_, place)| *place == wanted);
        hits.map(|(span, _)| &text[span.range()]).collect()
    };
    assert_eq!(of(Place::Protected), ["2.0", "9", "tools/call", "t", "s", "p"]);
    assert_eq!(of(Place::Value), ["v", "w", "y", "z", "q"]);
    assert_eq!(of(Place::Number), ["5"]);
    assert_eq!(of(Place::Key).len(), 17);
    let answer = r#"{"jsonrpc":"2.0","id":"i","result":{"nextCursor":"c","task":{"taskId":"t","statusMessage":"m"},"tasks":[{"taskId":"u"}],"tools":[{"name":"n","description":"d","inputSchema":{"name":"e"}}],"inputRequests":{"a":{"method":"r","params":{"message":"f"}}},"_meta":{"io.modelcontextprotocol/subscriptionId":1,"io.modelcontextprotocol/related-task":{"taskId":"w"}}}}"#;
    places(answer.as_bytes(), usize::MAX, &mut out).expect("JSON");
    let hits = out.iter().filter(|(_, place)| *place == Place::Protected);
    let words: Vec<_> = hits.map(|(span, _)| &answer[span.range()]).collect();
    assert_eq!(words, ["2.0", "i", "c", "t", "u", "n", "r", "1", "w"]);
    let message = from(Response, answer).expect("good");
    let tasks: Vec<_> = message.task_ids.iter().map(|t| t.decode(answer.as_bytes())).collect();
    assert_eq!(tasks, ["t", "u", "w"]);
}

#[test]
fn rules_have_distinct_names_and_known_codes() {
    let mut names: Vec<_> = McpRule::ALL.iter().map(|rule| rule.as_str()).collect();
    names.extend(json::JsonRule::ALL.iter().map(|rule| rule.as_str()));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(McpRule::ALL.iter().all(|rule| matches!(rule.code(), -32600 | -32602)));
    assert_eq!(McpRule::Json(json::JsonRule::Truncated).code(), -32700);
    assert_eq!(McpRule::Json(json::JsonRule::DuplicateKey).code(), -32600);
}
