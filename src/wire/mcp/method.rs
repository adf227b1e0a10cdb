//! Every method of every protocol version, and the member that names its target.
//!
//! Source: the schemas of 2024-11-05 to 2026-07-28 and the tasks extension. A method that is not in
//! the table has no target the gateway knows; whether it may pass is a question of grants.

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// A tool name.
    Tool,
    /// A prompt name.
    Prompt,
    /// A resource URI (or, in a completion, a URI template).
    Resource,
    /// A task id.
    Task,
}

/// Where a method names its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetRule {
    /// It has none.
    None,
    /// `params.name`.
    Name(TargetKind),
    /// `params.uri`.
    Uri,
    /// `params.taskId`.
    TaskId,
    /// `params.ref`: `type` says whether `name` (a prompt) or `uri` (a resource) counts.
    Ref,
    /// `params.notifications`: every string of `resourceSubscriptions` and `taskIds`.
    Filter,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownMethod {
    /// As it stands in `method`.
    pub name: &'static str,
    /// Whether it is answered, and so needs an id; else it is a notification and has none.
    pub request: bool,
    /// Clients send it.
    pub from_client: bool,
    /// Servers send it.
    pub from_server: bool,
    /// Where its targets stand.
    pub target: TargetRule,
}

const fn row(
    name: &'static str,
    request: bool,
    from_client: bool,
    from_server: bool,
    target: TargetRule,
) -> KnownMethod {
    KnownMethod { name, request, from_client, from_server, target }
}

/// The table.
#[rustfmt::skip]
pub const METHODS: &[KnownMethod] = {
    use TargetRule::{Filter, Name, None, Ref, TaskId, Uri};
    const Y: bool = true;
    const N: bool = false;
    &[
        //   name                                    request client server target
        row("tools/call",                               Y, Y, N, Name(TargetKind::Tool)),
        row("tools/list",                               Y, Y, N, None),
        row("initialize",                               Y, Y, N, None),
        row("notifications/initialized",                N, Y, N, None),
        row("server/discover",                          Y, Y, N, None),
        row("ping",                                     Y, Y, Y, None),
        row("prompts/get",                              Y, Y, N, Name(TargetKind::Prompt)),
        row("prompts/list",                             Y, Y, N, None),
        row("resources/read",                           Y, Y, N, Uri),
        row("resources/list",                           Y, Y, N, None),
        row("resources/templates/list",                 Y, Y, N, None),
        row("resources/subscribe",                      Y, Y, N, Uri),
        row("resources/unsubscribe",                    Y, Y, N, Uri),
        row("subscriptions/listen",                     Y, Y, N, Filter),
        row("completion/complete",                      Y, Y, N, Ref),
        row("logging/setLevel",                         Y, Y, N, None),
        row("tasks/get",                                Y, Y, Y, TaskId),
        row("tasks/result",                             Y, Y, Y, TaskId),
        row("tasks/cancel",                             Y, Y, Y, TaskId),
        row("tasks/update",                             Y, Y, N, TaskId),
        row("tasks/list",                               Y, Y, Y, None),
        row("sampling/createMessage",                   Y, N, Y, None),
        row("roots/list",                               Y, N, Y, None),
        row("elicitation/create",                       Y, N, Y, None),
        row("notifications/cancelled",                  N, Y, Y, None),
        row("notifications/progress",                   N, Y, Y, None),
        row("notifications/roots/list_changed",         N, Y, N, None),
        row("notifications/message",                    N, N, Y, None),
        row("notifications/resources/updated",          N, N, Y, Uri),
        row("notifications/resources/list_changed",     N, N, Y, None),
        row("notifications/tools/list_changed",         N, N, Y, None),
        row("notifications/prompts/list_changed",       N, N, Y, None),
        row("notifications/elicitation/complete",       N, N, Y, None),
        row("notifications/subscriptions/acknowledged", N, N, Y, None),
        row("notifications/tasks/status",               N, Y, Y, TaskId),
        row("notifications/tasks",                      N, N, Y, TaskId),
    ]
};

/// The row of a method, by its decoded name; compared byte for byte.
pub fn known_method(name: &str) -> Option<&'static KnownMethod> {
    METHODS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_and_nothing_else_go_without_an_id() {
        for row in METHODS {
            assert_eq!(row.request, !row.name.starts_with("notifications/"), "{}", row.name);
            assert!(row.from_client || row.from_server, "{}", row.name);
            assert_eq!(known_method(row.name), Some(row), "the name stands once");
        }
        assert_eq!(known_method("Tools/call"), None);
        assert_eq!(known_method("tools/call "), None);
    }
}
