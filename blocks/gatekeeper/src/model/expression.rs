//! Conditions in CEL, the Common Expression Language.
//!
//! An expression is an operator's; what it looks at is anybody's. So what it may cost is bounded when it is compiled: its length, its depth,
//! the functions that it may call (none that makes long texts), loops inside of loops over what a request brings (none), and patterns,
//! which have to be constants (the regular expressions of CEL are RE2's and take linear time, but each has to be compiled).

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, Program, Value as CelValue,
    common::{
        ast::{EntryExpr, Expr, IdedExpr},
        types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt},
        value::Val,
    },
    extensions,
};
use http::request::Parts;
use kernel::Timestamp;
use serde_json::{Map, Value};

use super::ask::Identity;

/// The longest expression, in bytes.
pub(crate) const MAX_EXPRESSION_BYTES: usize = 4096;

const MAX_DEPTH: usize = 24;

/// Functions that expressions may call, besides operators.
const FUNCTIONS: [&str; 21] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "type",
    "dyn",
    "split",
    "substring",
    "indexOf",
    "lastIndexOf",
    "charAt",
    "lowerAscii",
    "upperAscii",
    "trim",
    "bytes",
];

const VARIABLES: [&str; 4] = ["request", "identity", "claims", "now"];
const REQUEST_FIELDS: [&str; 7] = ["method", "scheme", "host", "path", "query", "headers", "address"];
const IDENTITY_FIELDS: [&str; 5] = ["policy", "method", "subject", "project", "claims"];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // A function declared twice would be a mistake of the library; the ones missing then are told at compile time.
    if let Err(e) = env.add_extension(extensions::strings) {
        tracing::error!(error = %e, "expressions lack the functions for texts");
    }
    Arc::new(env)
});

/// A condition.
pub(crate) struct Expression {
    program: Program,
    wants: Wants,
}

/// What an expression looks at, so that nothing else is built for it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wants {
    /// Fields by variable; `None` is the whole of it.
    fields: HashMap<&'static str, Option<BTreeSet<String>>>,
}

/// What it can see.
pub(crate) struct Inputs<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a str,
    pub(crate) peer: IpAddr,
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) now: Timestamp,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").field("wants", &self.wants).finish_non_exhaustive()
    }
}

impl Expression {
    /// Compiles; the error says what is wrong and where.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() || text.len() > MAX_EXPRESSION_BYTES {
            return Err(format!("an expression of 1 to {MAX_EXPRESSION_BYTES} bytes"));
        }
        // The parser descends once for each bracket, and overflows the stack on a few hundred.
        let mut depth = 0_usize;
        for byte in text.bytes() {
            match byte {
                b'(' | b'[' | b'{' | b'?' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Err(format!("brackets and conditions at most {MAX_DEPTH} deep"));
            }
        }
        let program = ENV.compile(text).map_err(|errors| errors.to_string())?;
        let mut walk = Walk { wants: Wants::default(), bound: Vec::new(), loops: 0 };
        walk.visit(program.expression())?;
        let wants = walk.wants;
        Ok(Self { program, wants })
    }

    /// Whether it holds. `Err` says why it cannot be said, which is no.
    pub(crate) fn holds(&self, inputs: &Inputs<'_>) -> Result<bool, String> {
        let mut context = Context::with_env(ENV.clone());
        for (name, fields) in &self.wants.fields {
            let is_wanted = |field: &str| fields.as_ref().is_none_or(|fields| fields.contains(field));
            context.add_variable_as_val(*name, inputs.variable(name, &is_wanted));
        }
        match self.program.execute(&context) {
            Ok(CelValue::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is no boolean but {}", other.type_of())),
            // Errors of the library quote values, which may be credentials; its first words say enough.
            Err(e) => Err(shortened(&e)),
        }
    }
}

fn shortened(error: &cel::ExecutionError) -> String {
    use cel::ExecutionError as E;
    match error {
        E::NoSuchKey(name) => format!("there is no {name:?}"),
        E::UndeclaredReference(name) => format!("nothing is called {name:?}"),
        E::NoSuchOverload(overload) => overload.to_string(),
        E::IndexOutOfBounds(_) => "an index past the end".to_owned(),
        E::FunctionError { function, .. } => format!("{function} failed"),
        _ => "values that do not go together".to_owned(),
    }
}

impl Inputs<'_> {
    fn variable(&self, name: &str, is_wanted: &dyn Fn(&str) -> bool) -> Box<dyn Val + '_> {
        match name {
            "now" => Box::new(CelInt::from(self.now.as_millis() / 1000)),
            "claims" => match self.identity {
                Some(identity) => object(&identity.claims, is_wanted),
                None => map([]),
            },
            "identity" => self.identity_map(is_wanted),
            _ => self.request_map(is_wanted),
        }
    }

    fn identity_map(&self, is_wanted: &dyn Fn(&str) -> bool) -> Box<dyn Val + '_> {
        let identity = self.identity;
        let fields = IDENTITY_FIELDS.into_iter().filter(|field| is_wanted(field)).map(|field| {
            let value: Box<dyn Val + '_> = match (field, identity) {
                ("claims", Some(identity)) => object(&identity.claims, &|_| true),
                ("claims", None) => map([]),
                ("policy", Some(identity)) => text(&identity.policy),
                ("method", Some(identity)) => text(identity.method.as_str()),
                ("subject", Some(identity)) => text(&identity.subject),
                ("project", Some(identity)) => text(identity.project.as_ref().map_or("", |project| project.as_str())),
                _ => text(""),
            };
            (field, value)
        });
        map(fields)
    }

    fn request_map(&self, is_wanted: &dyn Fn(&str) -> bool) -> Box<dyn Val + '_> {
        let parts = self.parts;
        let fields = REQUEST_FIELDS.into_iter().filter(|field| is_wanted(field)).map(|field| {
            let value: Box<dyn Val + '_> = match field {
                "method" => text(parts.method.as_str()),
                "scheme" => text(self.scheme),
                "host" => text(self.host),
                "path" => text(parts.uri.path()),
                "address" => Box::new(CelString::from(self.peer.to_canonical().to_string())),
                "query" => {
                    let mut first: HashMap<CelMapKey<'_>, Box<dyn Val + '_>> = HashMap::new();
                    for (name, value) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
                        first
                            .entry(CelMapKey::from(name.into_owned()))
                            .or_insert_with(|| Box::new(CelString::from(value.into_owned())));
                    }
                    Box::new(CelMap::from(first))
                }
                // Several headers of one name are one, joined as RFC 9110 §5.3 says.
                _ => map(parts.headers.keys().map(|name| {
                    let mut values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
                    let first = values.next().unwrap_or_default();
                    let joined: Box<dyn Val + '_> = match values.next() {
                        None => text(first),
                        Some(second) => {
                            let all: Vec<&str> = [first, second].into_iter().chain(values).collect();
                            Box::new(CelString::from(all.join(", ")))
                        }
                    };
                    (name.as_str(), joined)
                })),
            };
            (field, value)
        });
        map(fields)
    }
}

fn text<'v>(text: &'v str) -> Box<dyn Val + 'v> {
    Box::new(CelString::from(text))
}

fn map<'v>(fields: impl IntoIterator<Item = (&'v str, Box<dyn Val + 'v>)>) -> Box<dyn Val + 'v> {
    let map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> =
        fields.into_iter().map(|(name, value)| (CelMapKey::from(name), value)).collect();
    Box::new(CelMap::from(map))
}

fn object<'v>(claims: &'v Map<String, Value>, is_wanted: &dyn Fn(&str) -> bool) -> Box<dyn Val + 'v> {
    map(claims.iter().filter(|(name, _)| is_wanted(name)).map(|(name, value)| (name.as_str(), json(value))))
}

fn json(value: &Value) -> Box<dyn Val + '_> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(b) => Box::new(CelBool::from(*b)),
        Value::String(s) => text(s),
        Value::Number(n) => {
            if let Some(i) = n.as_i64() {
                Box::new(CelInt::from(i))
            } else if let Some(u) = n.as_u64() {
                Box::new(CelUInt::from(u))
            } else {
                Box::new(CelDouble::from(n.as_f64().unwrap_or(f64::NAN)))
            }
        }
        Value::Array(list) => Box::new(CelList::from(list.iter().map(json).collect::<Vec<_>>())),
        Value::Object(fields) => object(fields, &|_| true),
    }
}

/// Goes through an expression once: what it wants, and whether it may.
struct Walk {
    wants: Wants,
    /// Names that loops bind.
    bound: Vec<String>,
    /// Loops that this is inside of, not counting those over lists that stand in the expression.
    loops: u32,
}

impl Walk {
    fn visit(&mut self, node: &IdedExpr) -> Result<(), String> {
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.want(name, None),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) => self.want(name, Some(&select.field)),
                _ => self.visit(&select.operand),
            },
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
                if !is_operator && !FUNCTIONS.contains(&name) {
                    return Err(format!("there is no function {name:?} here; there are {}", FUNCTIONS.join(", ")));
                }
                if name == "matches"
                    && !call.args.last().is_some_and(|pattern| matches!(pattern.expr, Expr::Literal(_)))
                {
                    return Err("the pattern of matches has to stand in the expression, between quotes".to_owned());
                }
                // `claims['name']` wants no more than `claims.name`.
                if name == "_[_]"
                    && let [of, index] = call.args.as_slice()
                    && let (Expr::Ident(of), Expr::Literal(cel::common::ast::LiteralValue::String(field))) =
                        (&of.expr, &index.expr)
                {
                    return self.want(of, Some(field.inner()));
                }
                let target = call.target.iter().map(|target| &**target);
                target.chain(&call.args).try_for_each(|node| self.visit(node))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|node| self.visit(node)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.visit_entry(&entry.expr)),
            Expr::Struct(_) => Err("messages are not known here".to_owned()),
            Expr::Comprehension(each) => {
                self.visit(&each.iter_range)?;
                let is_counted = !matches!(each.iter_range.expr, Expr::List(_) | Expr::Map(_));
                if is_counted && self.loops > 0 {
                    return Err("a loop inside of a loop would let a request keep a processor busy".to_owned());
                }
                self.loops += u32::from(is_counted);
                let names = [Some(&each.iter_var), each.iter_var2.as_ref(), Some(&each.accu_var)];
                let before = self.bound.len();
                self.bound.extend(names.into_iter().flatten().cloned());
                let inside = [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result];
                let outcome = inside.into_iter().try_for_each(|node| self.visit(node));
                self.bound.truncate(before);
                self.loops -= u32::from(is_counted);
                outcome
            }
        }
    }

    fn visit_entry(&mut self, entry: &EntryExpr) -> Result<(), String> {
        match entry {
            EntryExpr::StructField(field) => self.visit(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key)?;
                self.visit(&entry.value)
            }
        }
    }

    fn want(&mut self, name: &str, field: Option<&str>) -> Result<(), String> {
        if name.starts_with('@') || self.bound.iter().any(|bound| bound == name) {
            return Ok(());
        }
        let Some(known) = VARIABLES.into_iter().find(|known| *known == name) else {
            // The names of types are values too: `type(x) == string`.
            if ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"].contains(&name)
            {
                return Ok(());
            }
            return Err(format!("nothing is called {name:?}; there are {}", VARIABLES.join(", ")));
        };
        let fields: &[&str] = match known {
            "request" => &REQUEST_FIELDS,
            "identity" => &IDENTITY_FIELDS,
            _ => &[],
        };
        if let Some(field) = field.filter(|field| !fields.is_empty() && !fields.contains(field)) {
            return Err(format!("{known} has no {field:?}; it has {}", fields.join(", ")));
        }
        let wanted = self.wants.fields.entry(known).or_insert_with(|| Some(BTreeSet::new()));
        match (wanted, field) {
            (Some(fields), Some(field)) => drop(fields.insert(field.to_owned())),
            (wanted, _) => *wanted = None,
        }
        Ok(())
    }
}
