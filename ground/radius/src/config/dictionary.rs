//! Dictionaries of radcli, freeradius-client and FreeRADIUS: names of attributes, for the log. All
//! attributes that the server acts upon are built in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::lines::{self, Line, Lines};

/// Most files that one dictionary includes.
const FILES_MAX: usize = 512;
/// Most names.
const NAMES_MAX: usize = 65_536;

/// Names of attributes by vendor and type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dictionary {
    names: HashMap<(Option<u32>, u8), String>,
}

impl Dictionary {
    /// Reads a dictionary with everything that it includes (blocking). Files that are already
    /// read are not read again.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut dictionary = Self::default();
        let mut vendors = HashMap::new();
        let mut files = vec![path.to_owned()];
        let mut at = 0;
        while let Some(file) = files.get(at).cloned() {
            at += 1;
            let text = lines::read(&file)?;
            let mut block = None;
            for line in Lines::new(&file, &text) {
                let line = line?;
                match line.keyword.trim_start_matches('-') {
                    "$INCLUDE" => include(&mut files, &line)?,
                    "VENDOR" => {
                        let [name, number] = words(&line)?;
                        vendors.insert(name.to_owned(), number32(&line, number)?);
                    }
                    "BEGIN-VENDOR" => {
                        let [name] = words(&line)?;
                        block = Some(vendor(&vendors, &line, name)?);
                    }
                    "END-VENDOR" => block = None,
                    "ATTRIBUTE" => dictionary.add(&line, block, &vendors)?,
                    // Values have no names here; other words are of newer formats.
                    _ => {}
                }
            }
        }
        Ok(dictionary)
    }

    /// The name of an attribute, or its number.
    pub fn name(&self, vendor: Option<u32>, kind: u8) -> String {
        match (self.names.get(&(vendor, kind)), vendor) {
            (Some(name), _) => name.clone(),
            (None, None) => format!("Attr-{kind}"),
            (None, Some(vendor)) => format!("Vendor-{vendor}-Attr-{kind}"),
        }
    }

    fn add(
        &mut self,
        line: &Line<'_>,
        block: Option<u32>,
        vendors: &HashMap<String, u32>,
    ) -> Result<(), ConfigError> {
        let [name, number, _type] = words(line)?;
        // Sub-attributes (`26.1`) and those beyond an octet are of later protocols.
        let Some(kind) = parse(number).and_then(|number| u8::try_from(number).ok()) else {
            return Ok(());
        };
        let old_style = line.rest.split_ascii_whitespace().nth(3);
        let old_style = old_style.and_then(|word| vendors.get(word.trim_start_matches("vendor=")));
        if self.names.len() == NAMES_MAX {
            return Err(line.wrong(format!("more than {NAMES_MAX} attributes")));
        }
        self.names
            .insert((block.or(old_style.copied()), kind), name.to_owned());
        Ok(())
    }
}

fn include(files: &mut Vec<PathBuf>, line: &Line<'_>) -> Result<(), ConfigError> {
    let path = line.path()?;
    if files.contains(&path) {
        return Ok(());
    }
    if files.len() == FILES_MAX {
        return Err(line.wrong(format!("more than {FILES_MAX} files are included")));
    }
    files.push(path);
    Ok(())
}

fn words<'a, const N: usize>(line: &Line<'a>) -> Result<[&'a str; N], ConfigError> {
    let mut words = line.rest.split_ascii_whitespace();
    let mut found = [""; N];
    for slot in &mut found {
        let missing = || line.wrong(format!("'{}' needs {N} words", line.keyword));
        *slot = words.next().ok_or_else(missing)?;
    }
    Ok(found)
}

fn vendor(vendors: &HashMap<String, u32>, line: &Line<'_>, name: &str) -> Result<u32, ConfigError> {
    let unknown = || line.wrong(format!("the vendor '{name}' is not known"));
    vendors.get(name).copied().ok_or_else(unknown)
}

fn number32(line: &Line<'_>, text: &str) -> Result<u32, ConfigError> {
    parse(text).ok_or_else(|| line.wrong(format!("'{text}' is no number")))
}

fn parse(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
