//! The administrator's commands for networks behind clients (`specs/server-config.md` §12.3). Without
//! them main installs these routes itself.

use std::process::Command;

use culvert_server_config::{Global, route_text};
use ipnet::IpNet;

use super::scripts::{Scripts, Subject};
use crate::log::{self, Level};

const SHELL: &str = "/bin/sh";

/// Whether the administrator has commands of his own; half of them is none.
pub(crate) fn has_commands(global: &Global) -> bool {
    global.route_add_cmd.is_some() && global.route_del_cmd.is_some()
}

/// What is to be run for the networks behind one client.
pub(crate) struct RouteCommands {
    pairs: Vec<Pair>,
}

struct Pair {
    add: String,
    remove: String,
}

impl RouteCommands {
    /// The commands for this session; none when the administrator has not set both.
    pub(crate) fn new(global: &Global, subject: &Subject) -> Self {
        let pairs = match (&global.route_add_cmd, &global.route_del_cmd) {
            (Some(add), Some(remove)) => {
                let iroutes = subject.session.settings.iroutes.iter();
                let pair = |net| Pair {
                    add: fill_in(add, net, &subject.device),
                    remove: fill_in(remove, net, &subject.device),
                };
                iroutes.map(pair).collect()
            }
            _ => Vec::new(),
        };
        Self { pairs }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Runs the commands that add routes, one after the other. When one fails, those before it are
    /// undone.
    ///
    /// # Errors
    /// One line that names the command that failed.
    pub(crate) async fn add(&self, scripts: &Scripts) -> Result<(), String> {
        for (done, pair) in self.pairs.iter().enumerate() {
            if let Err(why) = scripts.run(shell(&pair.add)).await {
                remove(self.pairs.get(..done).unwrap_or_default(), scripts).await;
                return Err(format!("route-add-cmd '{}': {why}", pair.add));
            }
        }
        Ok(())
    }

    /// Runs the commands that remove routes. They may fail: routes vanish with their device.
    pub(crate) async fn remove(&self, scripts: &Scripts) {
        remove(&self.pairs, scripts).await;
    }
}

async fn remove(pairs: &[Pair], scripts: &Scripts) {
    for pair in pairs.iter().rev() {
        if let Err(why) = scripts.run(shell(&pair.remove)).await {
            log::write(
                Level::Debug,
                &format!("main: route-del-cmd '{}': {why}", pair.remove),
            );
        }
    }
}

fn shell(line: &str) -> Command {
    let mut command = Command::new(SHELL);
    command.args(["-c", line]);
    command
}

/// Replaces `%{R}` or `%R` by the route as it is announced, `%{RI}` by its form with a prefix
/// length, `%{D}` or `%D` by the device. All of them are printed from parsed values, so nothing of
/// a file that users may write reaches the shell.
fn fill_in(template: &str, net: &IpNet, device: &str) -> String {
    let names = [
        ("{RI}", net.to_string()),
        ("{R}", route_text(net)),
        ("{D}", device.to_owned()),
        ("R", route_text(net)),
        ("D", device.to_owned()),
    ];
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let found = names
            .iter()
            .find_map(|(name, value)| Some((after.strip_prefix(name)?, value)));
        match found {
            Some((behind, value)) => {
                text.push_str(value);
                rest = behind;
            }
            None => {
                text.push('%');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let net = "172.16.5.0/24".parse().unwrap();
        for (template, expected) in [
            (
                "ip route add %{RI} dev %{D}",
                "ip route add 172.16.5.0/24 dev vpns3",
            ),
            ("route add %R %D", "route add 172.16.5.0/255.255.255.0 vpns3"),
            ("%{R}|%%|100%|%{X}", "172.16.5.0/255.255.255.0|%%|100%|%{X}"),
        ] {
            assert_eq!(fill_in(template, &net, "vpns3"), expected);
        }
        let net = "fd55::/64".parse().unwrap();
        assert_eq!(fill_in("%{R} %{RI}", &net, "d"), "fd55::/64 fd55::/64");
    }
}
