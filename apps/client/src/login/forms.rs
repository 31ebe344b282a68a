//! Who answers which field of a form (`specs/client.md` §5.2 to §5.4).

use culvert_vocab::{Choice, Field, FieldKind, Form, SecretString};

use crate::options::{FormEntry, LoginOptions};
use crate::output::printable;
use crate::prompt::{AskError, Asker};
use crate::token::Generator;

/// Answers that the command line gives.
#[derive(Debug)]
pub(crate) struct Answers {
    user: Option<String>,
    /// Used for the first password that is asked, then gone.
    password: Option<SecretString>,
    group: Option<String>,
    entries: Vec<FormEntry>,
    token: Option<Generator>,
}

impl Answers {
    /// The answers among the options.
    pub(crate) fn new(options: &LoginOptions) -> Self {
        Self {
            user: options.user.clone(),
            password: options.password.clone(),
            group: options.auth_group.clone(),
            entries: options.form_entries.clone(),
            token: None,
        }
    }

    /// From now on codes come from a token.
    pub(crate) fn set_token(&mut self, token: Option<Generator>) {
        self.token = token;
    }

    /// `--form-entry` for a field: `None` if not given, else its value if it has one.
    fn entry(&self, form: &str, field: &str) -> Option<Option<&SecretString>> {
        let matching = |entry: &&FormEntry| entry.form == form && entry.field == field;
        self.entries
            .iter()
            .rev()
            .find(matching)
            .map(|entry| entry.value.as_ref())
    }

    /// Drops what `--form-entry` says about a form whose answers were wrong.
    pub(crate) fn forget_entries(&mut self, form: &str) {
        self.entries.retain(|entry| entry.form != form);
    }

    fn entry_value(&self, form: &str, field: &str) -> Option<SecretString> {
        self.entry(form, field).flatten().cloned()
    }

    /// Shows what the form says.
    pub(crate) fn introduce(&self, form: &Form, asker: &mut dyn Asker, show_error: &mut dyn FnMut(&str)) {
        if let Some(banner) = &form.banner {
            asker.show(&printable(banner));
        }
        if let Some(error) = &form.error {
            show_error(&printable(error));
        }
        if let Some(message) = &form.message {
            asker.show(&printable(message));
        }
    }

    /// Answers the group selection, if the form has one, and returns the chosen value. The
    /// server shows the form again for the chosen group; then the answer is the same.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub(crate) fn choose_group(
        &mut self,
        form: &mut Form,
        asker: &mut dyn Asker,
    ) -> Result<Option<String>, AskError> {
        let Some(index) = form.group_field else {
            return Ok(None);
        };
        let id = form.id.clone();
        let Some(field) = form.fields.get_mut(index) else {
            return Ok(None);
        };
        let given = self.group.clone().or_else(|| {
            self.entry_value(&id, &field.name)
                .map(|value| value.expose().to_owned())
        });
        let FieldKind::Select(choices) = &field.kind else {
            return Ok(None);
        };
        let value = choose(&field.label, choices, given.as_deref(), asker)?;
        field.value = Some(value.as_str().into());
        self.group = Some(value.clone());
        Ok(Some(value))
    }

    /// Answers every other field.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub(crate) fn fill(&mut self, form: &mut Form, asker: &mut dyn Asker) -> Result<(), AskError> {
        // Codes come last: they are good for seconds only, and others may be asked.
        let said = [form.message.as_deref(), form.error.as_deref()].map(Option::unwrap_or_default);
        let said = said.join("\n");
        for codes in [false, true] {
            for (index, field) in form.fields.iter_mut().enumerate() {
                let is_code = field.kind == FieldKind::Token;
                if is_code == codes && !field.ignored && form.group_field != Some(index) {
                    self.answer(&form.id, &said, field, asker)?;
                }
            }
        }
        Ok(())
    }

    /// `said` is what the server says with the form.
    fn answer(
        &mut self,
        form: &str,
        said: &str,
        field: &mut Field,
        asker: &mut dyn Asker,
    ) -> Result<(), AskError> {
        let label = printable(&field.label);
        let answer = match &field.kind {
            FieldKind::Text => {
                let user = self.user.as_deref().filter(|_| is_user_field(&field.name));
                match user
                    .map(Into::into)
                    .or_else(|| self.entry_value(form, &field.name))
                {
                    Some(value) => value,
                    None => asker.ask(&label, false)?,
                }
            }
            FieldKind::Token => match self.token.as_mut().and_then(|token| token.generate(said)) {
                Some(code) => code,
                None => self.password(form, &field.name, &label, asker)?,
            },
            FieldKind::Password => self.password(form, &field.name, &label, asker)?,
            FieldKind::Select(choices) => {
                let given = self.entry_value(form, &field.name);
                choose(&label, choices, given.as_ref().map(SecretString::expose), asker)?.into()
            }
            FieldKind::Hidden => match self.entry(form, &field.name) {
                None => return Ok(()),
                Some(Some(value)) => value.clone(),
                Some(None) => asker.ask(&format!("{}:", printable(&field.name)), false)?,
            },
            FieldKind::SsoToken => return Ok(()),
        };
        field.value = Some(answer);
        Ok(())
    }

    fn password(
        &mut self,
        form: &str,
        field: &str,
        label: &str,
        asker: &mut dyn Asker,
    ) -> Result<SecretString, AskError> {
        match self.password.take().or_else(|| self.entry_value(form, field)) {
            Some(value) => Ok(value),
            None => asker.ask(label, true),
        }
    }
}

fn is_user_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("user") || name.starts_with("uname")
}

/// The value of the choice that `given` names, asking as long as it names none.
fn choose(
    label: &str,
    choices: &[Choice],
    given: Option<&str>,
    asker: &mut dyn Asker,
) -> Result<String, AskError> {
    let labels: Vec<&str> = choices.iter().map(|choice| choice.label.as_str()).collect();
    let prompt = printable(&format!("{label} [{}]:", labels.join("|")));
    if let (None, [only]) = (given, choices) {
        asker.show_choice(&prompt, &printable(&only.label));
        return Ok(only.value.clone());
    }
    let mut given = given.map(SecretString::from);
    loop {
        let text = match given.take() {
            Some(text) => text,
            None => asker.ask(&prompt, false)?,
        };
        match matching(choices, text.expose()) {
            Ok(choice) => return Ok(choice.value.clone()),
            Err(problem) => asker.show(&printable(&problem)),
        }
    }
}

/// The choice with this value, or this label, or the only one whose label begins so.
fn matching<'a>(choices: &'a [Choice], text: &str) -> Result<&'a Choice, String> {
    if let Some(choice) = choices.iter().find(|choice| choice.value == text) {
        return Ok(choice);
    }
    let wanted = text.to_lowercase();
    let begins = |choice: &&Choice| choice.label.to_lowercase().starts_with(&wanted);
    let candidates: Vec<&Choice> = choices.iter().filter(begins).collect();
    let exact = candidates
        .iter()
        .find(|choice| choice.label.to_lowercase() == wanted);
    match (exact, candidates.as_slice()) {
        (Some(choice), _) => Ok(choice),
        (None, [only]) => Ok(only),
        (None, []) => Err(format!("Auth choice \"{text}\" not available")),
        (None, _) => Err(format!("Auth choice \"{text}\" matches multiple options")),
    }
}

#[cfg(test)]
#[path = "forms_tests.rs"]
mod tests;
