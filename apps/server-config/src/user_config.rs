//! Per-user and per-group files (`specs/server-config.md` §9.4).

use std::io;
use std::path::{Path, PathBuf};

use culvert_vocab::{GroupName, UserName};
use ipnet::IpNet;

use crate::config::{Host, SessionSettings};
use crate::file;
use crate::grammar;
use crate::note::{ConfigError, Note};
use crate::raw::{self, Values};
use crate::reader::Reader;
use crate::report::Report;
use crate::session;

/// Largest per-user file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Why a user's settings cannot be determined; the session is then refused.
#[derive(Debug, thiserror::Error)]
pub enum UserConfigError {
    /// The name could lead out of the directory.
    #[error("'{0}' cannot be the name of a configuration file")]
    UnsafeName(String),
    /// The file is there, but cannot be read, or a fallback file is missing.
    #[error("cannot read '{}'", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in the file is wrong.
    #[error(transparent)]
    Wrong(#[from] ConfigError),
}

impl Host {
    /// The settings of one session: those of the host, changed by the group's file, changed by
    /// the user's file. Reads the files (blocking). Notes are about unknown options and the like.
    ///
    /// # Errors
    /// A name is unsafe, or a file is unreadable or wrong.
    pub fn settings_for(
        &self,
        user: &UserName,
        group: Option<&GroupName>,
    ) -> Result<(SessionSettings, Vec<Note>), UserConfigError> {
        self.settings_in_pool(user, group, None)
    }

    /// The same, changed by the file of an address pool that RADIUS has named, if the configuration has
    /// pools.
    ///
    /// # Errors
    /// As [`Self::settings_for`], and there is no such pool.
    pub fn settings_in_pool(
        &self,
        user: &UserName,
        group: Option<&GroupName>,
        pool: Option<&GroupName>,
    ) -> Result<(SessionSettings, Vec<Note>), UserConfigError> {
        let mut settings = self.session.clone();
        let mut notes = Vec::new();
        let mut values = Values::default();
        let mut last_file = None;
        let pools = self.address_pools().map(Path::to_owned);
        let missing = pools
            .as_ref()
            .zip(pool)
            .map(|(pools, pool)| pools.join(pool.as_str()));
        let sources = [
            pool.map(|pool| (pool.as_str(), pool.is_path_component(), &pools, &missing)),
            group.map(|group| {
                let safe = group.is_path_component();
                (
                    group.as_str(),
                    safe,
                    &self.config_per_group,
                    &self.default_group_config,
                )
            }),
            Some((
                user.as_str(),
                user.is_path_component(),
                &self.config_per_user,
                &self.default_user_config,
            )),
        ];
        for (name, safe, directory, fallback) in sources.into_iter().flatten() {
            let Some(directory) = directory else { continue };
            if !safe {
                return Err(UserConfigError::UnsafeName(name.to_owned()));
            }
            let Some((file, text)) = find(directory, name, fallback.as_deref())? else {
                continue;
            };
            let own = parse(&text, &file, &mut notes)?;
            // checked alone first, so that an error names the right file
            apply(self, &own, &file)?;
            values = own.after(&values);
            last_file = Some(file);
        }
        if let Some(file) = last_file {
            let (changed, more) = apply(self, &values, &file)?;
            settings = changed;
            notes.extend(more);
        }
        Ok((settings, notes))
    }

    /// The networks behind clients that all others are told of (`expose-iroutes`): every `iroute`
    /// in the files of `config-per-user`, with the name of its user, in the order of the names.
    /// Empty when the option is off. Reads the files (blocking); a file that cannot be used is
    /// left out and noted.
    pub fn exposed_iroutes(&self) -> (Vec<ExposedRoute>, Vec<Note>) {
        let mut routes = Vec::new();
        let mut notes = Vec::new();
        let Some(directory) = self.config_per_user.as_deref().filter(|_| self.expose_iroutes) else {
            return (routes, notes);
        };
        let names = match file::names(directory) {
            Ok(names) => names,
            Err(error) => {
                let text = format!("expose-iroutes: cannot read '{}': {error}", directory.display());
                return (routes, vec![Note::Warning(text)]);
            }
        };
        for name in names {
            let file = directory.join(&name);
            let read = match file::read_in_directory(directory, &name, FILE_MAX) {
                Ok(Some(text)) => parse(&text, &file, &mut notes)
                    .and_then(|values| apply(self, &values, &file))
                    .map_err(|error| error.to_string()),
                // Folders and the like; or it has gone meanwhile.
                Ok(None) | Err(_) => continue,
            };
            match read {
                Ok((settings, _told_at_connect)) => {
                    routes.extend(settings.iroutes.into_iter().map(|net| ExposedRoute {
                        user: name.clone(),
                        net,
                    }));
                }
                Err(error) => notes.push(Note::Warning(format!("expose-iroutes: {error}"))),
            }
        }
        (routes, notes)
    }
}

/// A network behind one user's client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposedRoute {
    /// The user.
    pub user: String,
    /// The network.
    pub net: IpNet,
}

/// The file for `name`, else the fallback, which must exist.
fn find(
    directory: &Path,
    name: &str,
    fallback: Option<&Path>,
) -> Result<Option<(PathBuf, Vec<u8>)>, UserConfigError> {
    let file = directory.join(name);
    match file::read_in_directory(directory, name, FILE_MAX) {
        Ok(Some(text)) => return Ok(Some((file, text))),
        Ok(None) => {}
        Err(source) => return Err(UserConfigError::Unreadable { file, source }),
    }
    let Some(fallback) = fallback else { return Ok(None) };
    match file::read_bounded(fallback, FILE_MAX) {
        Ok(text) => Ok(Some((fallback.to_owned(), text))),
        Err(source) => Err(UserConfigError::Unreadable {
            file: fallback.to_owned(),
            source,
        }),
    }
}

fn parse(text: &[u8], file: &Path, notes: &mut Vec<Note>) -> Result<Values, ConfigError> {
    let lines = grammar::read(text).map_err(|bad| bad.into_error(file))?;
    let mut report = Report::default();
    let values = raw::user_values(lines, &mut report);
    notes.extend(report.finish(file)?);
    Ok(values)
}

/// The host's settings, changed by `values`.
fn apply(host: &Host, values: &Values, file: &Path) -> Result<(SessionSettings, Vec<Note>), ConfigError> {
    let mut report = Report::default();
    let mut reader = Reader {
        values,
        host: 0,
        vhost: None,
        report: &mut report,
    };
    let mut settings = session::read(&mut reader, &host.session);
    let own_routes = !values.all("route").is_empty();
    // a user who gets everything through the tunnel resolves everything through it
    settings.tunnel_all_dns |= own_routes && settings.routes.default;
    if host.append_routes {
        if own_routes {
            settings.routes = host.session.routes.with(&settings.routes);
        }
        if !values.all("no-route").is_empty() {
            settings
                .no_routes
                .splice(0..0, host.session.no_routes.iter().copied());
        }
    }
    if let (Some(own), Some(most)) = (settings.mtu, host.session.mtu) {
        settings.mtu = Some(own.min(most));
    }
    let notes = report.finish(file)?;
    Ok((settings, notes))
}
