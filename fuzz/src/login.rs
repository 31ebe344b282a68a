use culvert_login::client::{Login, Returned, Step};
use culvert_vocab::{FieldKind, Form};

use crate::http::read_response;
use crate::parts;

/// Drives a login whose server answers with the parts of an input.
pub(crate) fn drive(login: &mut dyn Login, data: &[u8]) {
    let mut responses = parts(data);
    let mut step = login.start();
    // A login that asks for ever would hang its user.
    for _ in 0..100 {
        while login.poll_message().is_some() {}
        step = match step {
            Err(_) | Ok(Step::Done(_)) => return,
            Ok(Step::Form(form)) => login.handle_form(fill(form)),
            Ok(Step::Browser(_)) => {
                let text = responses.next().map(String::from_utf8_lossy);
                match text.map(|text| login.handle_browser(&text)) {
                    Some(Returned::Over { step, .. }) => Ok(*step),
                    Some(Returned::Stranger) | None => return,
                }
            }
            Ok(Step::HostScan(_)) => login.handle_host_scan(),
            Ok(Step::Wait(_)) => login.handle_timeout(),
            Ok(Step::Exchange(exchange)) => {
                let _ = exchange.request.to_bytes();
                match responses.next().map(read_response) {
                    Some(Some(response)) => login.handle_response(response),
                    Some(None) | None => return,
                }
            }
        };
    }
    panic!("the login never ends");
}

fn fill(mut form: Form) -> Form {
    for field in &mut form.fields {
        let value = match &field.kind {
            FieldKind::Select(choices) => choices.first().map(|choice| choice.value.clone()),
            _ => Some("x".to_owned()),
        };
        field.value = value.map(Into::into);
    }
    form
}
