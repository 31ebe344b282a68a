use super::*;

/// A user with a list of answers.
#[derive(Default)]
struct Scripted {
    answers: Vec<&'static str>,
    transcript: Vec<String>,
}

impl Asker for Scripted {
    fn show(&mut self, text: &str) {
        self.transcript.push(text.into());
    }
    fn show_choice(&mut self, prompt: &str, answer: &str) {
        self.transcript.push(format!("{prompt}{answer}"));
    }
    fn ask(&mut self, prompt: &str, hidden: bool) -> Result<SecretString, AskError> {
        self.transcript
            .push(format!("{prompt}{}", if hidden { "*" } else { "" }));
        if self.answers.is_empty() {
            return Err(AskError::NonInteractive);
        }
        Ok(self.answers.remove(0).into())
    }
}

fn field(name: &str, kind: FieldKind) -> Field {
    Field {
        name: name.into(),
        label: format!("{name}:"),
        kind,
        value: None,
        ignored: false,
    }
}

fn form(fields: Vec<Field>) -> Form {
    Form {
        id: "main".into(),
        fields,
        ..Form::default()
    }
}

fn login_form() -> Form {
    form(vec![
        field("username", FieldKind::Text),
        field("password", FieldKind::Password),
    ])
}

fn choice(value: &str, label: &str) -> Choice {
    Choice {
        value: value.into(),
        label: label.into(),
        selected: false,
    }
}

fn group_form(choices: Vec<Choice>) -> Form {
    let mut form = form(vec![field("group_list", FieldKind::Select(choices))]);
    form.group_field = Some(0);
    form
}

fn values(form: &Form) -> Vec<Option<&str>> {
    form.fields
        .iter()
        .map(|field| field.value.as_ref().map(SecretString::expose))
        .collect()
}

fn options() -> LoginOptions {
    LoginOptions::default()
}

#[test]
fn everything_is_asked_without_options() {
    let mut user = Scripted {
        answers: vec!["alice", "secret"],
        ..Scripted::default()
    };
    let mut form = login_form();
    Answers::new(&options())
        .fill(&mut form, &mut user)
        .expect("two answers");
    assert_eq!(values(&form), [Some("alice"), Some("secret")]);
    assert_eq!(user.transcript, ["username:", "password:*"]);
}

#[test]
fn user_again_and_password_once() {
    let mut answers = Answers::new(&LoginOptions {
        user: Some("alice".into()),
        password: Some("one".into()),
        ..options()
    });
    let mut user = Scripted {
        answers: vec!["two"],
        ..Scripted::default()
    };
    let mut form = login_form();
    answers.fill(&mut form, &mut user).expect("from options");
    assert_eq!(values(&form), [Some("alice"), Some("one")]);
    let mut form = login_form();
    answers.fill(&mut form, &mut user).expect("password asked");
    assert_eq!(values(&form), [Some("alice"), Some("two")]);
    let mut form = login_form();
    assert_eq!(answers.fill(&mut form, &mut user), Err(AskError::NonInteractive));
}

#[test]
fn user_option_fills_user_fields_only() {
    let answers = || {
        Answers::new(&LoginOptions {
            user: Some("alice".into()),
            ..options()
        })
    };
    for (name, filled) in [
        ("Username", true),
        ("uname", true),
        ("user_name2", true),
        ("login", false),
    ] {
        let mut form = form(vec![field(name, FieldKind::Text)]);
        let result = answers().fill(&mut form, &mut Scripted::default());
        assert_eq!(result.is_ok(), filled, "{name}");
    }
}

fn entry(field: &str, value: Option<&str>) -> FormEntry {
    FormEntry {
        form: "main".into(),
        field: field.into(),
        value: value.map(Into::into),
    }
}

#[test]
fn form_entries_fill_repeatedly_and_the_last_wins() {
    let mut answers = Answers::new(&LoginOptions {
        form_entries: vec![
            entry("password", Some("old")),
            entry("password", Some("new")),
            entry("Username", Some("wrong case")),
            entry("username", Some("bob")),
        ],
        ..options()
    });
    for _ in 0..2 {
        let mut form = login_form();
        answers
            .fill(&mut form, &mut Scripted::default())
            .expect("from entries");
        assert_eq!(values(&form), [Some("bob"), Some("new")]);
    }
}

#[test]
fn hidden_fields() {
    let mut hidden = field("csrf", FieldKind::Hidden);
    hidden.value = Some("server".into());
    let run = |entries: Vec<FormEntry>, answers: Vec<&'static str>| {
        let mut user = Scripted {
            answers,
            ..Scripted::default()
        };
        let mut form = form(vec![hidden.clone()]);
        let options = LoginOptions {
            form_entries: entries,
            ..options()
        };
        Answers::new(&options)
            .fill(&mut form, &mut user)
            .expect("answers");
        (form.fields[0].value.clone(), user.transcript)
    };
    assert_eq!(run(vec![], vec![]), (Some("server".into()), vec![]));
    assert_eq!(
        run(vec![entry("csrf", Some("mine"))], vec![]),
        (Some("mine".into()), vec![])
    );
    assert_eq!(
        run(vec![entry("csrf", None)], vec!["typed"]),
        (Some("typed".into()), vec!["csrf:".into()])
    );
}

#[test]
fn ignored_fields_are_not_asked() {
    let mut form = login_form();
    form.fields[1].ignored = true;
    let mut user = Scripted {
        answers: vec!["alice"],
        ..Scripted::default()
    };
    Answers::new(&options())
        .fill(&mut form, &mut user)
        .expect("one answer");
    assert_eq!(values(&form), [Some("alice"), None]);
}

fn group(
    given: Option<&str>,
    answers: Vec<&'static str>,
    choices: Vec<Choice>,
) -> (Result<Option<String>, AskError>, Vec<String>) {
    let mut user = Scripted {
        answers,
        ..Scripted::default()
    };
    let options = LoginOptions {
        auth_group: given.map(Into::into),
        ..options()
    };
    let result = Answers::new(&options).choose_group(&mut group_form(choices), &mut user);
    (result, user.transcript)
}

#[test]
fn group_selection() {
    let list = || {
        vec![
            choice("s", "Staff"),
            choice("so", "Staff only"),
            choice("g", "Guests"),
        ]
    };
    let value = |given| group(Some(given), vec![], list()).0;
    assert_eq!(value("staff"), Ok(Some("s".into())));
    assert_eq!(value("Staff O"), Ok(Some("so".into())));
    assert_eq!(value("gu"), Ok(Some("g".into())));
    assert_eq!(value("so"), Ok(Some("so".into())));
    let (result, transcript) = group(Some("st"), vec!["nobody", "g"], list());
    assert_eq!(result, Ok(Some("g".into())));
    assert_eq!(
        transcript,
        [
            "Auth choice \"st\" matches multiple options",
            "group_list: [Staff|Staff only|Guests]:",
            "Auth choice \"nobody\" not available",
            "group_list: [Staff|Staff only|Guests]:",
        ]
    );
    assert_eq!(value("st"), Err(AskError::NonInteractive));
}

#[test]
fn a_single_group_is_chosen_and_echoed() {
    let (result, transcript) = group(None, vec![], vec![choice("a", "All")]);
    assert_eq!(result, Ok(Some("a".into())));
    assert_eq!(transcript, ["group_list: [All]:All"]);
}

#[test]
fn texts_of_the_server_are_made_harmless() {
    let form = Form {
        banner: Some("\x1b[2Jhi".into()),
        error: Some("bad\x07".into()),
        ..Form::default()
    };
    let mut user = Scripted::default();
    let mut errors = Vec::new();
    Answers::new(&options()).introduce(&form, &mut user, &mut |text| errors.push(text.to_owned()));
    assert_eq!(user.transcript, ["?[2Jhi"]);
    assert_eq!(errors, ["bad?"]);
}

#[test]
fn the_same_group_is_not_asked_twice() {
    let list = || group_form(vec![choice("s", "Staff"), choice("g", "Guests")]);
    let mut user = Scripted {
        answers: vec!["guests"],
        ..Scripted::default()
    };
    let mut answers = Answers::new(&options());
    for _ in 0..2 {
        assert_eq!(answers.choose_group(&mut list(), &mut user), Ok(Some("g".into())));
    }
}
