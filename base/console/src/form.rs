//! Forms: a label for each field, errors beside what is wrong, the request below.

use kernel::Problem;
use maud::{Markup, PreEscaped, Render, html};

use crate::{Chrome, Link, RequestBox, safe_href};

#[derive(Debug, Clone)]
enum Input {
    Line { kind: &'static str },
    Long { rows: u8 },
    Choice { options: Vec<(String, String)> },
    Check,
}

/// One field of a form.
#[derive(Debug, Clone)]
pub struct Field {
    name: String,
    label: String,
    input: Input,
    value: String,
    help: String,
    placeholder: String,
    error: Option<String>,
    required: bool,
    longest: Option<u32>,
    mono: bool,
    /// Stands among others that may all be left empty, which need not be said of each.
    among_optional: bool,
}

impl Field {
    fn new(name: impl Into<String>, label: impl Into<String>, input: Input) -> Self {
        Self {
            name: name.into(),
            label: label.into(),
            input,
            value: String::new(),
            help: String::new(),
            placeholder: String::new(),
            error: None,
            required: false,
            longest: None,
            mono: false,
            among_optional: false,
        }
    }

    /// A line of text.
    pub fn text(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self::new(name, label, Input::Line { kind: "text" })
    }

    /// An address.
    pub fn url(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self::new(name, label, Input::Line { kind: "url" })
    }

    /// A file of the reader's machine; its form needs [`Form::multipart`].
    pub fn file(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self::new(name, label, Input::Line { kind: "file" })
    }

    /// A number.
    pub fn number(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self::new(name, label, Input::Line { kind: "number" })
    }

    /// A secret: not shown while typed, and its value is never sent back.
    pub fn secret(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self::new(name, label, Input::Line { kind: "password" })
    }

    /// A day and time in the reader's own clock (`datetime-local`).
    pub fn date_time(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self::new(name, label, Input::Line { kind: "datetime-local" })
    }

    /// Several lines of text.
    pub fn lines(name: impl Into<String>, label: impl Into<String>, rows: u8) -> Self {
        Self::new(name, label, Input::Long { rows })
    }

    /// A choice among `(value, words)`.
    pub fn choice(
        name: impl Into<String>,
        label: impl Into<String>,
        options: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        let options = options.into_iter().map(|(value, words)| (value.into(), words.into())).collect();
        Self::new(name, label, Input::Choice { options })
    }

    /// A yes or no; sent as `on` when yes.
    pub fn check(name: impl Into<String>, label: impl Into<String>) -> Self {
        Self::new(name, label, Input::Check)
    }

    /// The value it starts with (`on` for a checked [`Field::check`]).
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = value.into();
        self
    }

    /// A line below that says what is taken, with units.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// An example inside the empty field.
    #[must_use]
    pub fn placeholder(mut self, example: impl Into<String>) -> Self {
        self.placeholder = example.into();
        self
    }

    /// What is wrong with it.
    #[must_use]
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// It has to be filled in.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// The most characters that are taken.
    #[must_use]
    pub fn longest(mut self, chars: u32) -> Self {
        self.longest = Some(chars);
        self
    }

    /// Written in the monospaced font (codes, keys, JSON).
    #[must_use]
    pub fn mono(mut self) -> Self {
        self.mono = true;
        self
    }
}

impl Render for Field {
    fn render(&self) -> Markup {
        let id = format!("f-{}", self.name);
        let note = format!("{id}-note");
        let described = (self.error.is_some() || !self.help.is_empty()).then_some(note.as_str());
        let invalid = self.error.is_some().then_some("true");
        let placeholder = Some(self.placeholder.as_str()).filter(|p| !p.is_empty());
        let class = if self.mono { "mono" } else { "" };
        let required = self.required;
        let control = match &self.input {
            Input::Line { kind } => {
                let value = Some(self.value.as_str()).filter(|v| *kind != "password" && !v.is_empty());
                let complete = if *kind == "password" { "current-password" } else { "off" };
                let step = (*kind == "number").then_some("any");
                html! {
                    input.(class) id=(id) name=(self.name) type=(kind) value=[value] placeholder=[placeholder] required[required]
                        maxlength=[self.longest] step=[step] aria-describedby=[described] aria-invalid=[invalid]
                        autocomplete=(complete) spellcheck="false";
                }
            }
            Input::Long { rows } => html! {
                textarea.(class) id=(id) name=(self.name) rows=(rows) placeholder=[placeholder] required[required] maxlength=[self.longest]
                    aria-describedby=[described] aria-invalid=[invalid] spellcheck="false" { "\n" (self.value) }
            },
            Input::Choice { options } => html! {
                select id=(id) name=(self.name) required[required] aria-describedby=[described] aria-invalid=[invalid] {
                    @for (value, words) in options { option value=(value) selected[*value == self.value] { (words) } }
                }
            },
            Input::Check => html! {
                input id=(id) name=(self.name) type="checkbox" checked[self.value == "on"] required[required]
                    aria-describedby=[described] aria-invalid=[invalid];
            },
        };
        let check = matches!(self.input, Input::Check);
        html! {
            div.field.check[check] {
                @if check { (control) }
                label for=(id) { (self.label) @if !self.required && !check && !self.among_optional { span.quiet { "optional" } } }
                @if !check { (control) }
                @if let Some(error) = &self.error {
                    p.error id=(note) { (crate::Status::Down.shape()) (error) }
                } @else if !self.help.is_empty() {
                    p.help id=(note) { (self.help) }
                }
            }
        }
    }
}

/// A part of a form.
#[derive(Debug, Clone)]
enum Part {
    Field(Box<Field>),
    /// Beside each other where there is room.
    Row(Vec<Field>),
    Group {
        title: String,
        help: String,
        fields: Fields,
    },
    More {
        title: String,
        fields: Fields,
    },
}

/// The fields of a form, in rows and groups.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<Part>);

impl Fields {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next field.
    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.0.push(Part::Field(Box::new(field)));
        self
    }

    /// The next fields, beside each other where there is room.
    #[must_use]
    pub fn row(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.0.push(Part::Row(fields.into_iter().collect()));
        self
    }

    /// Fields that belong together, under a heading and a line of help. All of them may be left empty.
    #[must_use]
    pub fn group(mut self, title: impl Into<String>, help: impl Into<String>, mut fields: Self) -> Self {
        fields.each(&mut |field| field.among_optional = true);
        self.0.push(Part::Group { title: title.into(), help: help.into(), fields });
        self
    }

    /// Fields that most people leave alone: folded away until asked for, or until something in them is wrong. All of them may be
    /// left empty.
    #[must_use]
    pub fn more(mut self, title: impl Into<String>, mut fields: Self) -> Self {
        fields.each(&mut |field| field.among_optional = true);
        self.0.push(Part::More { title: title.into(), fields });
        self
    }

    fn each(&mut self, change: &mut impl FnMut(&mut Field)) {
        for part in &mut self.0 {
            match part {
                Part::Field(field) => change(field),
                Part::Row(fields) => fields.iter_mut().for_each(&mut *change),
                Part::Group { fields, .. } | Part::More { fields, .. } => fields.each(change),
            }
        }
    }

    fn has_error(&self) -> bool {
        self.0.iter().any(|part| match part {
            Part::Field(field) => field.error.is_some(),
            Part::Row(fields) => fields.iter().any(|f| f.error.is_some()),
            Part::Group { fields, .. } | Part::More { fields, .. } => fields.has_error(),
        })
    }

    /// Says `detail` beside the field of that name; else beside the first one whose name is the pointer's beginning, or begins
    /// with the pointer.
    fn blame(&mut self, pointer: &str, detail: &str) {
        let is_above = |above: &str, below: &str| below.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'));
        let fits: [&dyn Fn(&str) -> bool; 3] =
            [&|name| name == pointer, &|name| is_above(name, pointer), &|name| is_above(pointer, name)];
        for fits in fits {
            let mut is_found = false;
            self.each(&mut |field| {
                if !is_found && fits(&field.name) {
                    is_found = true;
                    field.error = Some(detail.to_owned());
                }
            });
            if is_found {
                return;
            }
        }
    }
}

impl Render for Fields {
    fn render(&self) -> Markup {
        html! {
            @for part in &self.0 {
                @match part {
                    Part::Field(field) => (field),
                    Part::Row(fields) => div.row { @for field in fields { (field) } },
                    Part::Group { title, help, fields } => fieldset {
                        @if !title.is_empty() { legend { (title) } }
                        @if !help.is_empty() { p.help { (help) } }
                        (fields)
                    },
                    Part::More { title, fields } => details.more open[fields.has_error()] {
                        summary { (title) }
                        div.form { (fields) }
                    },
                }
            }
        }
    }
}

/// A form that POSTs, with the CSRF token.
#[derive(Debug, Clone)]
pub struct Form {
    action: String,
    csrf: String,
    is_file: bool,
    hidden: Vec<(String, String)>,
    fields: Fields,
    submit: String,
    danger: bool,
    cancel: Option<Link>,
    failure: Option<(String, &'static str)>,
    request: Option<Markup>,
}

impl Form {
    /// A form to `action`.
    pub fn post(chrome: &Chrome, action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            csrf: chrome.csrf.clone(),
            is_file: false,
            hidden: Vec::new(),
            fields: Fields::new(),
            submit: "Save".to_owned(),
            danger: false,
            cancel: None,
            failure: None,
            request: None,
        }
    }

    /// A value that is sent and not shown.
    #[must_use]
    pub fn hidden(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.hidden.push((name.into(), value.into()));
        self
    }

    /// The next field.
    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        self.fields = self.fields.field(field);
        self
    }

    /// The next fields, in rows and groups.
    #[must_use]
    pub fn fields(mut self, fields: Fields) -> Self {
        self.fields.0.extend(fields.0);
        self
    }

    /// Sent as `multipart/form-data`, which [`Field::file`] needs.
    #[must_use]
    pub fn multipart(mut self) -> Self {
        self.is_file = true;
        self
    }

    /// The words of its button: a verb and what it does it to.
    #[must_use]
    pub fn submit(mut self, words: impl Into<String>) -> Self {
        self.submit = words.into();
        self
    }

    /// The button does something that is hard to undo.
    #[must_use]
    pub fn danger(mut self) -> Self {
        self.danger = true;
        self
    }

    /// A way out without sending.
    #[must_use]
    pub fn cancel(mut self, to: Link) -> Self {
        self.cancel = Some(to);
        self
    }

    /// What was refused: its detail on top, its fields beside the fields of the same name (a JSON pointer `/url` is `url`), or of
    /// the nearest one. Give it after the fields.
    #[must_use]
    pub fn problem(mut self, problem: &Problem) -> Self {
        self.failure = Some((problem.detail.clone(), problem.code.name));
        for wrong in &problem.fields {
            self.fields.blame(wrong.field.trim_start_matches('/'), &wrong.detail);
        }
        self
    }

    /// The request that this form sends, shown below it.
    #[must_use]
    pub fn request(mut self, chrome: &Chrome, request: &RequestBox) -> Self {
        self.request = Some(chrome.request(request));
        self
    }
}

impl Render for Form {
    fn render(&self) -> Markup {
        html! {
            form.form method="post" action=(safe_href(&self.action)) enctype=[self.is_file.then_some("multipart/form-data")] {
                input type="hidden" name="csrf" value=(self.csrf);
                @for (name, value) in &self.hidden { input type="hidden" name=(name) value=(value); }
                @if let Some((detail, code)) = &self.failure { (failure(detail, code)) }
                (self.fields)
                div.buttons {
                    button.(if self.danger { "danger" } else { "primary" }) type="submit" { (self.submit) }
                    @if let Some(to) = &self.cancel { a.button href=(to) { "Cancel" } }
                }
                (self.request.as_ref().map_or(PreEscaped(""), |r| PreEscaped(r.0.as_str())))
            }
        }
    }
}

fn failure(detail: &str, code: &str) -> Markup {
    html! {
        div.flash.bad role="alert" {
            (crate::Status::Down.shape())
            p { (detail) " " a.code href=(crate::paths::error_doc(code)) { (code) } }
        }
    }
}

/// A dangerous action: says what will happen and to how many, and asks to type the name. The handler must check the
/// answer with [`confirmed`]; the browser's own check is only a courtesy.
#[derive(Debug, Clone)]
pub struct Confirm {
    form: Form,
    name: String,
    consequence: String,
}

impl Confirm {
    /// The field that carries the typed name.
    pub const FIELD: &'static str = "confirm";

    /// Asks to type `name`; `consequence` says what will happen and to how many; `verb` are the words of the button.
    pub fn new(
        chrome: &Chrome,
        action: impl Into<String>,
        name: impl Into<String>,
        consequence: impl Into<String>,
        verb: impl Into<String>,
    ) -> Self {
        Self {
            form: Form::post(chrome, action).submit(verb).danger(),
            name: name.into(),
            consequence: consequence.into(),
        }
    }

    /// A value that is sent and not shown (the ids of a bulk action).
    #[must_use]
    pub fn hidden(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.form = self.form.hidden(name, value);
        self
    }

    /// A way out.
    #[must_use]
    pub fn cancel(mut self, to: Link) -> Self {
        self.form = self.form.cancel(to);
        self
    }

    /// The answer was not the name.
    #[must_use]
    pub fn refused(mut self) -> Self {
        self.form.failure =
            Some((format!("Nothing was done: what was typed is not “{}”.", self.name), "CONSOLE_NOT_CONFIRMED"));
        self
    }

    /// The request that does the same.
    #[must_use]
    pub fn request(mut self, chrome: &Chrome, request: &RequestBox) -> Self {
        self.form = self.form.request(chrome, request);
        self
    }
}

impl Render for Confirm {
    fn render(&self) -> Markup {
        html! {
            form.form.confirm method="post" action=(safe_href(&self.form.action)) {
                input type="hidden" name="csrf" value=(self.form.csrf);
                @for (name, value) in &self.form.hidden { input type="hidden" name=(name) value=(value); }
                @if let Some((detail, _)) = &self.form.failure {
                    div.flash.bad role="alert" { (crate::Status::Down.shape()) p { (detail) } }
                }
                p { (self.consequence) }
                div.field {
                    label for="f-confirm" { "Type " code { (self.name) } " to go on" }
                    input.mono id="f-confirm" name=(Self::FIELD) type="text" required pattern=(literal_pattern(&self.name))
                        title={ "Exactly: " (self.name) } autocomplete="off" autocapitalize="off" spellcheck="false";
                }
                div.buttons {
                    button.danger type="submit" { (self.form.submit) }
                    @if let Some(to) = &self.form.cancel { a.button href=(to) { "Cancel" } }
                }
                (self.form.request.as_ref().map_or(PreEscaped(""), |r| PreEscaped(r.0.as_str())))
            }
        }
    }
}

/// True when what was typed is the name (spaces around it aside).
pub fn confirmed(typed: &str, name: &str) -> bool {
    typed.trim() == name.trim()
}

/// A regular expression (with the `v` flag, as HTML's `pattern` has) that matches exactly this text.
fn literal_pattern(text: &str) -> String {
    text.chars()
        .flat_map(|c| [Some('\\').filter(|_| r"\^$.|?*+()[]{}/-&!#%,:;<=>@`~".contains(c)), Some(c)])
        .flatten()
        .collect()
}

/// A button that POSTs by itself: an undo, a pause, a retry.
pub fn post_button(chrome: &Chrome, action: &str, words: &str, fields: &[(&str, &str)]) -> Markup {
    html! {
        form.inline method="post" action=(safe_href(action)) {
            (chrome.csrf_field())
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            button.small type="submit" { (words) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_the_name() {
        assert!(confirmed(" launch ", "launch"));
        for typed in ["", "Launch", "launch2", "laun"] {
            assert!(!confirmed(typed, "launch"));
        }
        assert_eq!(literal_pattern("a.b/c"), r"a\.b\/c");
    }
}
