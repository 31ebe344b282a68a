//! Typed access to the values of one host or per-user file.

use std::path::PathBuf;
use std::time::Duration;

use crate::raw::{Value, Values, leading_number, truth};
use crate::report::{Check, Report};

/// Values, and where to complain about them.
pub(crate) struct Reader<'a> {
    pub(crate) values: &'a Values,
    /// Index of the host, the default one being 0; ranks failed checks.
    pub(crate) host: usize,
    /// Name of a virtual host, for messages.
    pub(crate) vhost: Option<&'a str>,
    pub(crate) report: &'a mut Report,
}

impl Reader<'_> {
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.values.last(name).map_or(default, |value| truth(&value.text))
    }

    /// A number as ocserv would store it in 32 bits: negative and huge ones wrap.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.values
            .last(name)
            .map(|value| leading_number(&value.text).0 as u32)
    }

    pub(crate) fn number_or(&self, name: &str, default: u32) -> u32 {
        self.number(name).unwrap_or(default)
    }

    /// A count for which 0 means no limit.
    pub(crate) fn limit(&self, name: &str, default: Option<u32>) -> Option<u32> {
        self.number(name)
            .map_or(default, |number| (number > 0).then_some(number))
    }

    /// A number that must fit 16 bits.
    pub(crate) fn small(&mut self, name: &str) -> Option<u16> {
        let value = self.values.last(name)?;
        let (number, _) = leading_number(&value.text);
        u16::try_from(number)
            .inspect_err(|_| {
                self.report
                    .fail_at(value.line, format!("invalid value of '{name}': {}", value.text))
            })
            .ok()
    }

    /// A time in seconds for which 0 means off.
    pub(crate) fn seconds(&self, name: &str, default: Option<Duration>) -> Option<Duration> {
        self.number(name).map_or(default, |seconds| {
            Some(Duration::from_secs(seconds.into())).filter(|t| !t.is_zero())
        })
    }

    /// A time in seconds, where 0 is one too.
    pub(crate) fn seconds_or(&self, name: &str, default: u32) -> Duration {
        Duration::from_secs(self.number_or(name, default).into())
    }

    /// A time in milliseconds for which 0 means off.
    pub(crate) fn milliseconds(&self, name: &str) -> Option<Duration> {
        let number = self.number(name).filter(|&number| number > 0)?;
        Some(Duration::from_millis(number.into()))
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.values.last(name).map(|value| value.text.clone())
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.values.last(name).map(|value| PathBuf::from(&value.text))
    }

    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.values
            .all(name)
            .iter()
            .map(|value| value.text.clone())
            .collect()
    }

    /// The elements of a list; those that `parse` refuses are reported at their line.
    pub(crate) fn parsed_list<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        self.values
            .all(name)
            .iter()
            .filter_map(|value| self.parsed(value, &parse))
            .collect()
    }

    /// The last value, if there is one and `parse` accepts it.
    pub(crate) fn parsed_last<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.values.last(name)?;
        self.parsed(value, &parse)
    }

    fn parsed<T>(&mut self, value: &Value, parse: &impl Fn(&str) -> Result<T, String>) -> Option<T> {
        parse(&value.text)
            .map_err(|message| self.report.fail_at(value.line, message))
            .ok()
    }

    /// Number of the line that gave an option its value.
    pub(crate) fn line(&self, name: &str) -> Option<usize> {
        self.values.last(name).map(|value| value.line)
    }

    /// Reports a failed check, with the name of the virtual host.
    pub(crate) fn fail(&mut self, check: Check, line: Option<usize>, message: impl AsRef<str>) {
        let message = match self.vhost {
            Some(name) => format!("vhost:{name}: {}", message.as_ref()),
            None => message.as_ref().to_owned(),
        };
        self.report.fail_check(self.host, check, line, message);
    }

    /// `vhost:NAME: `, also for the default host, as notes about authentication have it.
    pub(crate) fn label(&self) -> String {
        format!("vhost:{}: ", self.vhost.unwrap_or("default"))
    }

    /// `vhost:NAME: `, empty for the default host.
    pub(crate) fn prefix(&self) -> String {
        self.vhost
            .map(|name| format!("vhost:{name}: "))
            .unwrap_or_default()
    }
}
