//! A form of the server, with what [`Form`] does not say: which fields depend on the group, and
//! how answers are named (`specs/anyconnect.md` §3.3).

use culvert_vocab::{Choice, Field, FieldKind, Form, SecretString, TokenKind};
use culvert_wire::xml::Element;

use super::document::Auth;

/// Name of the select that chooses the group.
const GROUP_LIST: &str = "group_list";
/// Most fields of a form.
const FIELDS_MAX: usize = 64;
/// Most choices of a select.
const CHOICES_MAX: usize = 4096;

/// Why a form cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormProblem {
    /// `method` other than POST.
    #[error("Cannot handle form method='{0}'")]
    Method(String),
    /// `action=""`.
    #[error("the form has an empty action")]
    Action,
    /// A select without name.
    #[error("the form has a choice without a name")]
    NamelessSelect,
    /// More fields or choices than any honest form has.
    #[error("the form is too large")]
    TooLarge,
}

/// What choosing a group means for the other fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct GroupRule {
    value: String,
    /// Nothing is asked.
    no_authentication: bool,
    /// The fields of the second authentication are asked.
    second_authentication: bool,
    secondary_username: Option<String>,
    secondary_username_editable: bool,
}

/// A form as received.
#[derive(Debug, Clone, Default)]
pub(super) struct LoginForm {
    pub(super) form: Form,
    /// Where the answer goes, a redirect target.
    pub(super) action: Option<String>,
    /// The field at the same position belongs to the second authentication.
    second: Vec<bool>,
    groups: Vec<GroupRule>,
}

impl LoginForm {
    /// Reads the form of `auth`.
    pub(super) fn parse(auth: &Auth) -> Result<Self, FormProblem> {
        let mut this = Self::default();
        this.form.id.clone_from(&auth.id);
        this.form.banner.clone_from(&auth.banner);
        this.form.message.clone_from(&auth.message);
        this.form.error.clone_from(&auth.error);
        let Some(form) = &auth.form else {
            return Ok(this);
        };
        if let Some(method) = form
            .attribute("method")
            .filter(|method| !method.eq_ignore_ascii_case("post"))
        {
            return Err(FormProblem::Method(method.chars().take(40).collect()));
        }
        this.action = form.attribute("action").map(str::to_owned);
        if this.action.as_deref() == Some("") {
            return Err(FormProblem::Action);
        }
        // Every select comes before the inputs.
        for select in form.elements().filter(|element| element.name == "select") {
            this.add_select(select)?;
        }
        for input in form.elements().filter(|element| element.name == "input") {
            this.add_input(input)?;
        }
        Ok(this)
    }

    fn add_select(&mut self, select: &Element) -> Result<(), FormProblem> {
        let name = select.attribute("name").ok_or(FormProblem::NamelessSelect)?;
        let options: Vec<_> = select
            .elements()
            .filter(|element| element.name == "option")
            .collect();
        if options.is_empty() {
            return Ok(());
        }
        if options.len() > CHOICES_MAX {
            return Err(FormProblem::TooLarge);
        }
        let choices: Vec<_> = options.iter().map(|option| choice(option)).collect();
        if name == GROUP_LIST && self.form.group_field.is_none() {
            self.form.group_field = Some(self.form.fields.len());
            self.groups = options
                .iter()
                .zip(&choices)
                .map(|(option, choice)| group_rule(option, choice))
                .collect();
        }
        self.push(select, name, FieldKind::Select(choices), None)
    }

    fn add_input(&mut self, input: &Element) -> Result<(), FormProblem> {
        let (Some(kind), Some(name)) = (input.attribute("type"), input.attribute("name")) else {
            return Ok(());
        };
        let (kind, value) = match kind {
            "text" => (FieldKind::Text, None),
            "password" => (FieldKind::Password, None),
            "hidden" => (
                FieldKind::Hidden,
                Some(input.attribute("value").unwrap_or_default().into()),
            ),
            "sso" => (FieldKind::SsoToken, None),
            _ => return Ok(()),
        };
        self.push(input, name, kind, value)
    }

    fn push(
        &mut self,
        element: &Element,
        name: &str,
        kind: FieldKind,
        value: Option<SecretString>,
    ) -> Result<(), FormProblem> {
        if self.form.fields.len() == FIELDS_MAX {
            return Err(FormProblem::TooLarge);
        }
        let label = element
            .attribute("label")
            .map_or_else(|| format!("{name}:"), str::to_owned);
        self.form.fields.push(Field {
            name: name.to_owned(),
            label,
            kind,
            value,
            ignored: false,
        });
        self.second.push(element.attribute("second-auth") == Some("1"));
        Ok(())
    }

    /// Marks the passwords that codes of this kind of token are for (`specs/client.md` §9.1).
    /// ocserv 1.1 asks for a one-time code in a field that is named like the password; only its
    /// message tells.
    pub(super) fn mark_codes(&mut self, token: TokenKind) {
        let message = self.form.message.as_deref().unwrap_or_default();
        let challenge = self.form.id == "challenge" || message.contains("OTP");
        for field in &mut self.form.fields {
            let wants_code = match token {
                TokenKind::SecurId => matches!(field.name.as_str(), "password" | "answer"),
                TokenKind::Oath => challenge || field.name == "secondary_password",
            };
            if field.kind == FieldKind::Password && wants_code {
                field.kind = FieldKind::Token;
            }
        }
    }

    /// True when the server expects no field at all.
    pub(super) fn is_empty(&self) -> bool {
        self.form.fields.is_empty()
    }

    /// Marks the group with this value, or else the one that the server preselects, and decides
    /// which fields it needs. Returns the value in force.
    pub(super) fn set_group(&mut self, value: Option<&str>) -> Option<String> {
        let field = self.form.fields.get_mut(self.form.group_field?)?;
        let FieldKind::Select(choices) = &mut field.kind else {
            return None;
        };
        let chosen = value
            .and_then(|value| choices.iter().position(|choice| choice.value == value))
            .or_else(|| choices.iter().position(|choice| choice.selected))
            .unwrap_or(0);
        for (at, choice) in choices.iter_mut().enumerate() {
            choice.selected = at == chosen;
        }
        let rule = self.groups.get(chosen)?.clone();
        self.apply(&rule);
        Some(rule.value)
    }

    fn apply(&mut self, rule: &GroupRule) {
        for (field, &second) in self.form.fields.iter_mut().zip(&self.second) {
            if !matches!(
                field.kind,
                FieldKind::Text | FieldKind::Password | FieldKind::Token
            ) {
                continue;
            }
            field.ignored = rule.no_authentication || (second && !rule.second_authentication);
            if second && field.name == "secondary_username" {
                // Sent as the server gave it, unless the user may change it.
                let given = rule.secondary_username.clone().filter(|_| !field.ignored);
                field.ignored |= given.is_some() && !rule.secondary_username_editable;
                field.value = given.map(SecretString::new);
            }
        }
    }
}

fn choice(option: &Element) -> Choice {
    let label = option.text().trim().to_owned();
    Choice {
        value: option
            .attribute("value")
            .map_or_else(|| label.clone(), str::to_owned),
        selected: option.attribute("selected") == Some("true"),
        label,
    }
}

fn group_rule(option: &Element, choice: &Choice) -> GroupRule {
    let is = |name: &str, value: &str| option.attribute(name) == Some(value);
    GroupRule {
        value: choice.value.clone(),
        no_authentication: is("noaaa", "1"),
        second_authentication: is("second-auth", "1"),
        secondary_username: option.attribute("secondary_username").map(str::to_owned),
        secondary_username_editable: is("secondary_username_editable", "true"),
    }
}

/// Under which element of `auth` an answer is sent; `None` if it is not sent there.
pub(super) fn reply_name(field: &str) -> Option<&str> {
    match field {
        GROUP_LIST | "verify_pin" | "verify_password" => None,
        "answer" | "whichpin" | "new_password" => Some("password"),
        // A name that would break the document is of no use to the server either.
        other => is_xml_name(other).then_some(other),
    }
}

fn is_xml_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-' | b'.'))
}

/// The group that a filled form names.
pub(super) fn group_value(form: &Form) -> Option<&str> {
    let value = form.fields.get(form.group_field?)?.value.as_ref()?;
    Some(value.expose())
}

/// True when nothing was entered: such forms in a row end the login.
pub(super) fn nothing_entered(form: &Form) -> bool {
    !form
        .fields
        .iter()
        .any(|field| field.kind != FieldKind::Hidden && !field.ignored && field.value.is_some())
}

#[cfg(test)]
mod tests {
    use culvert_wire::xml;
    use proptest::prelude::*;

    use super::*;

    fn parse(form: &str) -> Result<LoginForm, FormProblem> {
        let form = xml::parse(form.as_bytes()).unwrap();
        LoginForm::parse(&Auth {
            form: Some(form),
            ..Auth::default()
        })
    }

    fn names(form: &LoginForm) -> Vec<&str> {
        form.form.fields.iter().map(|field| field.name.as_str()).collect()
    }

    #[test]
    fn fields_that_count() {
        let form = parse(
            "<form><input type='text' name='u'/><input name='x'/><input type='text'/><input type='file' name='f'/>\
             <input type='submit' name='s'/><p/><input type='hidden' name='h' value='v'/><select name='e'/>\
             <select name='c' label='C'><option value='1'>one</option></select><input type='text' name='u' label='again'/></form>",
        )
        .unwrap();
        assert_eq!(names(&form), ["c", "u", "h", "u"]);
        assert_eq!(form.form.fields[1].label, "u:");
        assert_eq!(form.form.fields[2].value, Some("v".into()));
    }

    #[test]
    fn unusable_forms() {
        assert_eq!(
            parse("<form method='get'/>").err(),
            Some(FormProblem::Method("get".into()))
        );
        assert_eq!(parse("<form action=''/>").err(), Some(FormProblem::Action));
        assert_eq!(
            parse("<form><select><option/></select></form>").err(),
            Some(FormProblem::NamelessSelect)
        );
        let many = format!("<form>{}</form>", "<input type='text' name='a'/>".repeat(65));
        assert_eq!(parse(&many).err(), Some(FormProblem::TooLarge));
    }

    #[test]
    fn the_group_decides_what_is_asked() {
        let mut form = parse(
            "<form><select name='group_list'><option value='a'>A</option><option value='b' selected='true' second-auth='1' \
             secondary_username='joe'>B</option><option noaaa='1'>C</option></select><input type='text' name='username'/>\
             <input type='text' name='secondary_username' second-auth='1'/>\
             <input type='password' name='secondary_password' second-auth='1'/></form>",
        )
        .unwrap();
        let asked = |form: &LoginForm| {
            form.form
                .fields
                .iter()
                .skip(1)
                .map(|field| !field.ignored)
                .collect::<Vec<_>>()
        };
        assert_eq!(form.set_group(None).as_deref(), Some("b"));
        assert_eq!(asked(&form), [true, false, true]);
        assert_eq!(form.form.fields[2].value, Some("joe".into()));
        assert_eq!(form.set_group(Some("a")).as_deref(), Some("a"));
        assert_eq!(asked(&form), [true, false, false]);
        assert_eq!(form.form.fields[2].value, None);
        assert_eq!(form.set_group(Some("C")).as_deref(), Some("C"));
        assert_eq!(asked(&form), [false, false, false]);
    }

    #[test]
    fn codes_of_tokens() {
        let code_fields = |id: &str, token| {
            let mut form = parse(
                "<form><input type='text' name='answer'/><input type='password' name='password'/>\
                 <input type='password' name='answer'/><input type='password' name='secondary_password'/></form>",
            )
            .unwrap();
            form.form.id = id.into();
            form.mark_codes(token);
            let fields = form.form.fields.iter();
            fields
                .map(|field| field.kind == FieldKind::Token)
                .collect::<Vec<_>>()
        };
        assert_eq!(code_fields("main", TokenKind::Oath), [false, false, false, true]);
        assert_eq!(
            code_fields("challenge", TokenKind::Oath),
            [false, true, true, true]
        );
        assert_eq!(
            code_fields("main", TokenKind::SecurId),
            [false, true, true, false]
        );
    }

    #[test]
    fn a_message_tells_what_is_asked() {
        let mut form = parse("<form><input type='password' name='password'/></form>").unwrap();
        form.form.message = Some("Please enter your OTP password.".into());
        form.mark_codes(TokenKind::Oath);
        assert_eq!(form.form.fields[0].kind, FieldKind::Token);
    }

    #[test]
    fn names_of_answers() {
        assert_eq!(reply_name("answer"), Some("password"));
        assert_eq!(reply_name("verify_password"), None);
        assert_eq!(reply_name("a><b"), None);
        assert_eq!(reply_name("sso-token"), Some("sso-token"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(<form>|<select name='group_list'>|<option|<input| value='x'| type='text'|/>|>|</select>| noaaa='1'){0,20}") {
            if let Ok(form) = xml::parse(text.as_bytes())
                && let Ok(mut form) = LoginForm::parse(&Auth { form: Some(form), ..Auth::default() })
            {
                form.set_group(Some("x"));
            }
        }
    }
}
