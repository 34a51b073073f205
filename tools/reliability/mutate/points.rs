//! Where a source file can be mutated, and what each mutant puts there.

use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, BinOp, Block, Expr, GenericArgument, PathArguments, ReturnType, Stmt, Type, UnOp};

use crate::Fault;

/// Characters of a source text that are shown at most.
const SHOWN: usize = 100;
/// Integers: 0 and 1 stand for any.
const INTEGERS: [&str; 12] = ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"];

/// A mutant: what is put before and after a stretch of the source, so that it is switched on by its number.
#[derive(Debug, Clone)]
pub struct Point {
    /// Its number in the switch, from 1.
    pub number: u32,
    /// The file, from the root of the package.
    pub file: String,
    /// The line in the original.
    pub line: usize,
    /// The function around it, with its type.
    pub function: String,
    /// The original text, shortened.
    pub from: String,
    /// What it becomes, shortened.
    pub to: String,
    /// The stretch in the original; empty where something is put in.
    pub range: Range<usize>,
    /// What stands before it.
    pub before: String,
    /// What stands after it.
    pub after: String,
}

impl Point {
    /// How `argued.txt` names it: by its text, for lines move.
    pub fn key(&self) -> String {
        format!("{}, {}: `{}` => `{}`", self.file, self.function, self.from, self.to)
    }
}

/// Every mutant of a source text; numbers begin with `first`.
///
/// # Errors
/// Where it is no Rust.
pub fn points(file: &str, source: &str, first: u32) -> Result<Vec<Point>, Fault> {
    let parsed = syn::parse_file(source).map_err(|fault| format!("{file}: {fault}"))?;
    let mut finder = Finder { file, source, next: first, names: Vec::new(), found: Vec::new() };
    finder.visit_file(&parsed);
    Ok(finder.found)
}

struct Finder<'a> {
    file: &'a str,
    source: &'a str,
    next: u32,
    names: Vec<String>,
    found: Vec<Point>,
}

/// Text in one line, shortened.
fn shown(text: &str) -> String {
    let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let words = code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    if words.chars().count() <= SHOWN { words } else { words.chars().take(SHOWN).chain("...".chars()).collect() }
}

/// Whether an item is compiled only sometimes: for tests, or on other systems.
fn conditional(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg") || attribute.path().is_ident("test"))
}

/// Whether a condition binds names: such a chain knows no `||`.
fn binds(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => binds(&binary.left) || binds(&binary.right),
        _ => false,
    }
}

/// What a function may give by default, by the type that is written: nothing where that is not known.
fn defaults(ty: &Type) -> Vec<String> {
    let texts = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect();
    match ty {
        Type::Tuple(tuple) if tuple.elems.is_empty() => texts(&["()"]),
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Vec::new() };
            let name = last.ident.to_string();
            match name.as_str() {
                "bool" => texts(&["true", "false"]),
                "String" => texts(&["String::new()"]),
                "Vec" => texts(&["Vec::new()"]),
                "Option" => texts(&["None"]),
                "Result" => {
                    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Vec::new() };
                    let Some(GenericArgument::Type(good)) = arguments.args.first() else { return Vec::new() };
                    defaults(good).iter().map(|good| format!("Ok({good})")).collect()
                }
                name if INTEGERS.contains(&name) => texts(&["0", "1"]),
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// The operators that a comparison, a sum or a connective becomes.
const fn swapped(op: &BinOp) -> Option<&'static str> {
    Some(match op {
        BinOp::Lt(_) => "<=",
        BinOp::Le(_) => "<",
        BinOp::Gt(_) => ">=",
        BinOp::Ge(_) => ">",
        BinOp::And(_) => "||",
        BinOp::Or(_) => "&&",
        BinOp::Add(_) => "-",
        BinOp::Sub(_) => "+",
        BinOp::Mul(_) => "/",
        BinOp::Div(_) => "*",
        BinOp::AddAssign(_) => "-=",
        BinOp::SubAssign(_) => "+=",
        BinOp::MulAssign(_) => "/=",
        BinOp::DivAssign(_) => "*=",
        _ => return None,
    })
}

const fn compares(op: &BinOp) -> bool {
    matches!(op, BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_) | BinOp::Eq(_) | BinOp::Ne(_))
}

/// Whether a statement is a call and nothing else.
fn calls(expr: &Expr) -> bool {
    match expr {
        Expr::Call(_) | Expr::MethodCall(_) => true,
        Expr::Try(inner) => calls(&inner.expr),
        Expr::Await(inner) => calls(&inner.base),
        _ => false,
    }
}

impl Finder<'_> {
    fn text(&self, range: Range<usize>) -> &str {
        self.source.get(range).unwrap_or_default()
    }

    fn add(&mut self, at: &impl Spanned, range: Range<usize>, texts: [String; 2], put: impl Fn(u32) -> [String; 2]) {
        let [before, after] = put(self.next);
        let [from, to] = texts.map(|text| shown(&text));
        self.found.push(Point {
            number: self.next,
            file: self.file.to_owned(),
            line: at.span().start().line,
            function: self.names.join("::"),
            from,
            to,
            range,
            before,
            after,
        });
        self.next += 1;
    }

    /// The whole expression, or its opposite.
    fn flip(&mut self, expr: &Expr, to: String) {
        let range = expr.span().byte_range();
        let from = self.text(range.clone()).to_owned();
        self.add(expr, range, [from, to], |number| [format!("crate::mutant::flip({number}, "), ")".to_owned()]);
    }

    /// The opposite of what a condition asks, where no operator stands that is mutated by itself.
    fn condition(&mut self, expr: &Expr) {
        if let Expr::Call(_) | Expr::MethodCall(_) | Expr::Macro(_) | Expr::Path(_) | Expr::Field(_) = expr {
            let text = self.text(expr.span().byte_range()).to_owned();
            self.flip(expr, format!("!{text}"));
        }
    }

    fn binary(&mut self, expr: &Expr, left: &Expr, op: &BinOp, right: &Expr) {
        let range = expr.span().byte_range();
        let from = self.text(range.clone()).to_owned();
        if compares(op) {
            self.flip(expr, format!("!({from})"));
        }
        let connects = matches!(op, BinOp::And(_) | BinOp::Or(_));
        if connects {
            self.condition(left);
            self.condition(right);
        }
        let Some(op) = swapped(op) else { return };
        if connects && (binds(left) || binds(right)) {
            return;
        }
        let part = |side: &Expr| {
            let text = self.text(side.span().byte_range());
            if matches!(side, Expr::Binary(_)) { format!("({text})") } else { text.to_owned() }
        };
        let to = format!("{} {op} {}", part(left), part(right));
        let (left, right) = (self.text(left.span().byte_range()), self.text(right.span().byte_range()));
        // What is assigned to takes no parentheses.
        let other = if op.ends_with('=') && op.len() == 2 && !matches!(op, "<=" | ">=") {
            format!("{left} {op} {right}")
        } else {
            format!("({left}) {op} ({right})")
        };
        self.add(expr, range, [from, to], |number| {
            [format!("(if crate::mutant::on({number}) {{ {other} }} else {{ "), " })".to_owned()]
        });
    }

    fn function(&mut self, attributes: &[Attribute], signature: &syn::Signature, body: &Block) {
        let name = signature.ident.to_string();
        // What fuzz targets call is a test of the rest.
        if signature.constness.is_some() || conditional(attributes) || name.starts_with("fuzz_") {
            return;
        }
        self.names.push(name);
        let at = body.brace_token.span.open().byte_range().end;
        let end = body.brace_token.span.close().byte_range().start;
        let whole = self.text(at..end).trim().to_owned();
        let results = match &signature.output {
            ReturnType::Default => vec!["()".to_owned()],
            ReturnType::Type(_, ty) => defaults(ty),
        };
        let inner = attributes.iter().any(|attribute| matches!(attribute.style, syn::AttrStyle::Inner(_)));
        if !inner && !body.stmts.is_empty() {
            for result in results.into_iter().filter(|result| *result != whole) {
                let texts = [format!("{{ {whole} }}"), format!("{{ {result} }}")];
                self.add(&signature.ident, at..at, texts, |number| {
                    [format!(" if crate::mutant::on({number}) {{ return {result}; }}"), String::new()]
                });
            }
        }
        self.visit_block(body);
        self.names.pop();
    }
}

/// Everything that is not visited stays as it is: types, patterns, constants, attributes, what macros are given.
impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Fn(item) => self.function(&item.attrs, &item.sig, &item.block),
            syn::Item::Mod(item) if !conditional(&item.attrs) => visit::visit_item_mod(self, item),
            syn::Item::Impl(item) if !conditional(&item.attrs) => {
                let of = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
                if of.is_some_and(|last| last.ident == "Debug" || last.ident == "Display") {
                    return;
                }
                let name = match item.self_ty.as_ref() {
                    Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
                    _ => None,
                };
                self.names.extend(name.clone());
                item.items.iter().for_each(|one| self.visit_impl_item(one));
                if name.is_some() {
                    self.names.pop();
                }
            }
            syn::Item::Trait(item) if !conditional(&item.attrs) => {
                self.names.push(item.ident.to_string());
                item.items.iter().for_each(|one| self.visit_trait_item(one));
                self.names.pop();
            }
            _ => {}
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        if let syn::ImplItem::Fn(item) = item {
            self.function(&item.attrs, &item.sig, &item.block);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast syn::TraitItem) {
        if let syn::TraitItem::Fn(item) = item
            && let Some(body) = &item.default
        {
            self.function(&item.attrs, &item.sig, body);
        }
    }

    fn visit_stmt(&mut self, stmt: &'ast Stmt) {
        if let Stmt::Expr(expr, Some(end)) = stmt
            && calls(expr)
        {
            let range = expr.span().byte_range().start..end.span().byte_range().end;
            let from = self.text(range.clone()).to_owned();
            self.add(expr, range, [from, "left out".to_owned()], |number| {
                [format!("if !crate::mutant::on({number}) {{ "), " }".to_owned()]
            });
        }
        visit::visit_stmt(self, stmt);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        match expr {
            Expr::Binary(binary) if binary.attrs.is_empty() => {
                self.binary(expr, &binary.left, &binary.op, &binary.right);
            }
            Expr::Unary(unary) if matches!(unary.op, UnOp::Not(_)) && unary.attrs.is_empty() => {
                // The opposite of a comparison is a mutant of the comparison.
                let inner = if let Expr::Paren(paren) = unary.expr.as_ref() { &paren.expr } else { &unary.expr };
                if !matches!(inner.as_ref(), Expr::Binary(binary) if compares(&binary.op)) {
                    let to = self.text(unary.expr.span().byte_range()).to_owned();
                    self.flip(expr, to);
                }
            }
            Expr::If(known) => self.condition(&known.cond),
            Expr::While(known) => self.condition(&known.cond),
            Expr::Match(known) => {
                known.arms.iter().filter_map(|arm| arm.guard.as_ref()).for_each(|(_, guard)| self.condition(guard));
            }
            Expr::Repeat(repeat) => return self.visit_expr(&repeat.expr),
            Expr::Const(_) => return,
            _ => {}
        }
        visit::visit_expr(self, expr);
    }

    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
    fn visit_macro(&mut self, _: &'ast syn::Macro) {}
    fn visit_path_arguments(&mut self, _: &'ast PathArguments) {}
    fn visit_angle_bracketed_generic_arguments(&mut self, _: &'ast syn::AngleBracketedGenericArguments) {}
}
