//! The commands, their help, and how words select them (`specs/server-tools.md` §3.1-3.2).

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    DisconnectUser,
    DisconnectId,
    TerminateUser,
    TerminateId,
    TerminateSession,
    Unban,
    Reload,
    Status,
    Users,
    Bans,
    BanPoints,
    Iroutes,
    Sessions { valid_only: bool },
    Session,
    User,
    Id,
    Events,
    Stop,
    Reset,
    Help,
    Exit,
}

/// Where the help shows a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Always,
    Interactive,
    /// Only where an incomplete command is completed.
    Never,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// Placeholder of the argument, if it takes one.
    pub(super) argument: Option<&'static str>,
    help: &'static str,
    pub(super) action: Action,
    shown: Shown,
}

const fn plain(name: &'static str, help: &'static str, action: Action) -> Command {
    Command {
        name,
        argument: None,
        help,
        action,
        shown: Shown::Always,
    }
}

const fn with(name: &'static str, argument: &'static str, help: &'static str, action: Action) -> Command {
    Command {
        name,
        argument: Some(argument),
        help,
        action,
        shown: Shown::Always,
    }
}

const fn special(name: &'static str, help: &'static str, action: Action, shown: Shown) -> Command {
    Command {
        name,
        argument: None,
        help,
        action,
        shown,
    }
}

/// All commands; the first that fits counts.
pub(super) const COMMANDS: &[Command] = &[
    with(
        "disconnect user",
        "[NAME]",
        "Disconnect the specified user",
        Action::DisconnectUser,
    ),
    with(
        "disconnect id",
        "[ID]",
        "Disconnect the specified ID",
        Action::DisconnectId,
    ),
    with(
        "terminate user",
        "[NAME]",
        "Disconnect user and invalidate session cookies",
        Action::TerminateUser,
    ),
    with(
        "terminate id",
        "[ID]",
        "Disconnect ID and invalidate session cookies",
        Action::TerminateId,
    ),
    with(
        "terminate session",
        "[SID]",
        "Invalidate the specified session of a disconnected user",
        Action::TerminateSession,
    ),
    with("unban ip", "[IP]", "Unban the specified IP", Action::Unban),
    plain("reload", "Reloads the server configuration", Action::Reload),
    plain(
        "show status",
        "Prints the status and statistics of the server",
        Action::Status,
    ),
    plain("show users", "Prints the connected users", Action::Users),
    plain("show ip bans", "Prints the banned IP addresses", Action::Bans),
    plain(
        "show ip ban points",
        "Prints all the known IP addresses which have points",
        Action::BanPoints,
    ),
    plain(
        "show iroutes",
        "Prints the routes provided by users of the server",
        Action::Iroutes,
    ),
    plain(
        "show sessions all",
        "Prints all the session IDs",
        Action::Sessions { valid_only: false },
    ),
    plain(
        "show sessions valid",
        "Prints all the valid for reconnection sessions",
        Action::Sessions { valid_only: true },
    ),
    with(
        "show session",
        "[SID]",
        "Prints information on the specified session",
        Action::Session,
    ),
    with(
        "show user",
        "[NAME]",
        "Prints information on the specified user",
        Action::User,
    ),
    with(
        "show id",
        "[ID]",
        "Prints information on the specified ID",
        Action::Id,
    ),
    plain(
        "show events",
        "Provides information about connecting users",
        Action::Events,
    ),
    plain("stop now", "Terminates the server", Action::Stop),
    special(
        "reset",
        "Resets the screen and terminal",
        Action::Reset,
        Shown::Interactive,
    ),
    special("help", "Prints this help", Action::Help, Shown::Interactive),
    special("exit", "Exits this application", Action::Exit, Shown::Interactive),
    special("?", "Prints this help", Action::Help, Shown::Never),
    special("quit", "Exits this application", Action::Exit, Shown::Never),
    special(
        "show cookies all",
        "Alias for show sessions all",
        Action::Sessions { valid_only: false },
        Shown::Never,
    ),
    special(
        "show cookies valid",
        "Alias for show sessions valid",
        Action::Sessions { valid_only: true },
        Shown::Never,
    ),
];

impl Command {
    /// The line of the help.
    fn help_line(&self) -> String {
        // the other spelling of `help` is shown like an argument
        match self.argument.or((self.name == "help").then_some("or ?")) {
            Some(argument) => format!(" {:>12} {argument}\t{}\n", self.name, self.help),
            None => format!(" {:>16}\t{}\n", self.name, self.help),
        }
    }
}

/// What words mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// Do this, with the argument of commands that take one.
    Run(Action, &'a str),
    /// Show these help lines: the command is incomplete.
    Incomplete(String),
    /// Nothing begins like that.
    Unknown,
    /// No words.
    Nothing,
}

/// Interprets words joined by single blanks. `interactive` narrows the help for a missing argument
/// to the commands that fit; outside, everything is shown.
pub(super) fn parse(line: &str, interactive: bool) -> Parsed<'_> {
    if line.is_empty() {
        return Parsed::Nothing;
    }
    let lower = line.to_ascii_lowercase();
    if lower == "stop" {
        return Parsed::Run(Action::Stop, "");
    }
    for command in COMMANDS {
        let Some(rest) = lower.strip_prefix(command.name) else {
            continue;
        };
        if command.argument.is_none() {
            return Parsed::Run(command.action, "");
        }
        if !rest.is_empty() && !rest.starts_with(' ') {
            continue;
        }
        let argument = line.get(command.name.len()..).unwrap_or_default().trim();
        if argument.is_empty() || argument == "?" {
            let beginning = if interactive { command.name } else { "" };
            return Parsed::Incomplete(matching_help(beginning));
        }
        return Parsed::Run(command.action, argument);
    }
    let help = matching_help(lower.trim_end_matches('?').trim_end());
    if help.is_empty() {
        Parsed::Unknown
    } else {
        Parsed::Incomplete(help)
    }
}

/// Help lines of all commands that begin like this, also the hidden ones.
fn matching_help(beginning: &str) -> String {
    COMMANDS
        .iter()
        .filter(|command| command.name.starts_with(beginning))
        .map(Command::help_line)
        .collect()
}

/// What is shown for an argument that makes no sense.
pub(super) fn all_help(interactive: bool) -> String {
    if interactive {
        help(true)
    } else {
        matching_help("")
    }
}

/// The list of commands.
pub(super) fn help(interactive: bool) -> String {
    let lines = COMMANDS
        .iter()
        .filter(|command| {
            command.shown == Shown::Always || (interactive && command.shown == Shown::Interactive)
        })
        .map(Command::help_line);
    std::iter::once("Available Commands\n".to_owned())
        .chain(lines)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_select_the_first_command_that_fits() {
        for (line, action, argument) in [
            ("show status", Action::Status, ""),
            ("SHOW Users", Action::Users, ""),
            ("show user Test", Action::User, "Test"),
            ("show session 11N3Aj", Action::Session, "11N3Aj"),
            ("show sessions valid", Action::Sessions { valid_only: true }, ""),
            ("show cookies all", Action::Sessions { valid_only: false }, ""),
            ("reloadx", Action::Reload, ""),
            ("stop", Action::Stop, ""),
            ("stop now", Action::Stop, ""),
            ("disconnect id 5", Action::DisconnectId, "5"),
            ("unban ip 1.2.3.4", Action::Unban, "1.2.3.4"),
            ("help", Action::Help, ""),
            ("?", Action::Help, ""),
            ("quit", Action::Exit, ""),
            ("show ip ban points", Action::BanPoints, ""),
        ] {
            assert_eq!(parse(line, false), Parsed::Run(action, argument), "{line}");
        }
        assert_eq!(parse("", false), Parsed::Nothing);
        assert_eq!(parse("foo", false), Parsed::Unknown);
        assert_eq!(parse("show foo", true), Parsed::Unknown);
    }

    #[test]
    fn incomplete_commands_show_what_they_could_become() {
        let names = |parsed| match parsed {
            Parsed::Incomplete(help) => help.lines().count(),
            other => panic!("{other:?}"),
        };
        assert_eq!(names(parse("show us?", true)), 2);
        assert_eq!(names(parse("show sessions", true)), 2);
        assert_eq!(names(parse("show user", true)), 2);
        assert_eq!(names(parse("show user ?", true)), 2);
        assert_eq!(
            names(parse("show user", false)),
            COMMANDS.len(),
            "everything, outside"
        );
        assert_eq!(names(parse("disconnect", false)), 2);
        assert_eq!(names(parse("h", false)), 1);
    }

    /// Help lines are ocserv 1.1.6's, plus the commands that 1.5 added.
    #[test]
    fn help_lines_are_ocservs() {
        let vectors = include_str!("../../tests/vectors/occtl-1.1.6-outputs.txt");
        let section = |title: &str| {
            let start = vectors.split_once(&format!("=== {title}\n")).expect("section").1;
            start.split("=== ").next().expect("text").to_owned()
        };
        let ours = help(true);
        let without_new: String = ours
            .lines()
            .filter(|line| !line.contains("terminate"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(without_new, section("occtl help"));
        let Parsed::Incomplete(show) = parse("show", false) else {
            panic!("incomplete")
        };
        assert_eq!(show, section("occtl show"));
    }
}
