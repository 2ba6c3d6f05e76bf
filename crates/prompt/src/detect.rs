//! Whether a template takes content as text or as a list of parts.
//!
//! The engine guesses it from the template's syntax tree: a loop over
//! `message.content`, where `message` is a loop's item over `messages` or a
//! variable set from it, or over a macro's parameter that gets such content. The
//! guess decides what the prompt looks like, so it is repeated here step by step,
//! oddities included.

use crate::ContentFormat;
use crate::template::{prepare, syntax};
use minijinja::machinery::ast::{Call, CallArg, Expr, ForLoop, Macro, Stmt};
use minijinja::machinery::parse;
use std::collections::BTreeSet;

/// The form of content that the engine gives to the template `source`, or why the
/// template cannot be rendered.
pub(crate) fn content_format(source: &str) -> Result<ContentFormat, String> {
    let source = prepare(source);
    let syntax = syntax().map_err(|error| error.to_string())?;
    let root = parse(&source, "chat", syntax).map_err(|error| error.to_string())?;
    let mut tree = Tree::default();
    tree.statement(&root, None);
    if let Some(unlike) = tree.unlike {
        return Err(unlike.to_owned());
    }
    Ok(match tree.loops_over_content() {
        Ok(true) => ContentFormat::Openai,
        Ok(false) | Err(Odd) => ContentFormat::String,
    })
}

/// Variables that Jinja sets where minijinja does not.
const UNLIKE: [&str; 3] = ["self", "varargs", "kwargs"];

/// A shape at which the engine's own analysis gives up.
struct Odd;

/// The nodes that matter, in the order of the source.
#[derive(Default)]
struct Tree<'a> {
    sets: Vec<(&'a Expr<'a>, &'a Expr<'a>)>,
    /// Loops, and the macro that each is in.
    loops: Vec<(&'a ForLoop<'a>, Option<usize>)>,
    macros: Vec<&'a Macro<'a>>,
    calls: Vec<&'a Call<'a>>,
    /// What minijinja would render otherwise than Jinja, or fail at badly.
    unlike: Option<&'static str>,
}

impl<'a> Tree<'a> {
    fn loops_over_content(&self) -> Result<bool, Odd> {
        let mut lists = vec!["messages"];
        let mut at = 0;
        while let Some(name) = lists.get(at).copied() {
            at += 1;
            for (target, value) in &self.sets {
                if reaches(value, name, None) {
                    let target = variable(target).ok_or(Odd)?;
                    if !lists.contains(&target) {
                        lists.push(target);
                    }
                }
            }
        }
        let mut messages = Vec::new();
        for (node, _) in &self.loops {
            if lists.iter().any(|name| reaches(&node.iter, name, None)) {
                messages.push(variable(&node.target).ok_or(Odd)?);
            }
        }
        let is_content =
            |value: &Expr<'_>| messages.iter().any(|name| reaches(value, name, Some("content")));
        let parameters: Vec<BTreeSet<&str>> = self
            .macros
            .iter()
            .map(|declared| self.content_parameters(declared, &is_content))
            .collect();
        for (node, inside) in &self.loops {
            let over = variable(&node.iter);
            let parameter = inside
                .and_then(|at| parameters.get(at))
                .is_some_and(|parameters| over.is_some_and(|name| parameters.contains(name)));
            if is_content(&node.iter) || parameter || (inside.is_none() && over == Some("content"))
            {
                variable(&node.target).ok_or(Odd)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Parameters of `declared` that some call passes content to.
    fn content_parameters(
        &self,
        declared: &'a Macro<'a>,
        is_content: &dyn Fn(&Expr<'_>) -> bool,
    ) -> BTreeSet<&'a str> {
        let names: Vec<&str> = declared.args.iter().filter_map(variable).collect();
        let mut found = BTreeSet::new();
        for call in &self.calls {
            if variable(&call.expr) != Some(declared.name) {
                continue;
            }
            let mut position = 0;
            for argument in &call.args {
                match argument {
                    CallArg::Pos(value) => {
                        if let Some(name) = names.get(position).filter(|_| is_content(value)) {
                            found.insert(*name);
                        }
                        position += 1;
                    }
                    CallArg::Kwarg(name, value) if is_content(value) => {
                        found.extend(names.iter().find(|known| *known == name));
                    }
                    _ => {}
                }
            }
        }
        found
    }

    fn statements(&mut self, nodes: &'a [Stmt<'a>], inside: Option<usize>) {
        for node in nodes {
            self.statement(node, inside);
        }
    }

    fn statement(&mut self, node: &'a Stmt<'a>, inside: Option<usize>) {
        match node {
            Stmt::Template(node) => self.statements(&node.children, inside),
            Stmt::EmitExpr(node) => self.expression(&node.expr),
            Stmt::ForLoop(node) => {
                self.loops.push((node, inside));
                self.expression(&node.iter);
                self.optional(&node.filter_expr);
                self.statements(&node.body, inside);
                self.statements(&node.else_body, inside);
            }
            Stmt::IfCond(node) => {
                self.expression(&node.expr);
                self.statements(&node.true_body, inside);
                self.statements(&node.false_body, inside);
            }
            Stmt::WithBlock(node) => {
                node.assignments.iter().for_each(|(_, value)| self.expression(value));
                self.statements(&node.body, inside);
            }
            Stmt::Set(node) => {
                self.sets.push((&node.target, &node.expr));
                self.expression(&node.expr);
            }
            Stmt::SetBlock(node) => {
                self.optional(&node.filter);
                self.statements(&node.body, inside);
            }
            Stmt::AutoEscape(node) => {
                self.unlike = Some("it escapes for HTML");
                self.statements(&node.body, inside);
            }
            Stmt::FilterBlock(node) => {
                self.expression(&node.filter);
                self.statements(&node.body, inside);
            }
            Stmt::Block(node) => self.statements(&node.body, inside),
            Stmt::Macro(node) => {
                let at = self.macros.len();
                self.macros.push(node);
                node.defaults.iter().for_each(|value| self.expression(value));
                self.statements(&node.body, Some(at));
            }
            Stmt::CallBlock(node) => {
                self.call(&node.call);
                self.statements(&node.macro_decl.body, inside);
            }
            Stmt::Do(node) => self.call(&node.call),
            Stmt::EmitRaw(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_)
            | Stmt::Extends(_)
            | Stmt::Include(_)
            | Stmt::Continue(_)
            | Stmt::Break(_) => {}
        }
    }

    fn call(&mut self, node: &'a Call<'a>) {
        self.calls.push(node);
        self.expression(&node.expr);
        self.arguments(&node.args);
    }

    fn arguments(&mut self, arguments: &'a [CallArg<'a>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value)
                | CallArg::Kwarg(_, value)
                | CallArg::PosSplat(value)
                | CallArg::KwargSplat(value) => self.expression(value),
            }
        }
    }

    fn optional(&mut self, node: &'a Option<Expr<'a>>) {
        if let Some(node) = node {
            self.expression(node);
        }
    }

    fn expression(&mut self, node: &'a Expr<'a>) {
        match node {
            Expr::Var(node) if UNLIKE.contains(&node.id) => {
                self.unlike = Some("it uses self, varargs or kwargs");
            }
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(node) => {
                self.expression(&node.expr);
                self.optional(&node.start);
                self.optional(&node.stop);
                let forwards = |step: &Expr<'_>| match step {
                    Expr::Const(step) => step.value.as_i64().is_some_and(|step| step > 0),
                    _ => false,
                };
                if node.step.as_ref().is_some_and(|step| !forwards(step)) {
                    self.unlike = Some("it slices backwards otherwise than by [::-1]");
                }
                self.optional(&node.step);
            }
            Expr::UnaryOp(node) => self.expression(&node.expr),
            Expr::BinOp(node) => {
                self.expression(&node.left);
                self.expression(&node.right);
            }
            Expr::Compare(node) => {
                self.expression(&node.expr);
                node.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            Expr::IfExpr(node) => {
                self.expression(&node.test_expr);
                self.expression(&node.true_expr);
                self.optional(&node.false_expr);
            }
            Expr::Filter(node) => {
                self.optional(&node.expr);
                self.arguments(&node.args);
            }
            Expr::Test(node) => {
                self.expression(&node.expr);
                self.arguments(&node.args);
            }
            Expr::GetAttr(node) => self.expression(&node.expr),
            Expr::GetItem(node) => {
                self.expression(&node.expr);
                self.expression(&node.subscript_expr);
            }
            Expr::Call(node) => self.call(node),
            Expr::List(node) => node.items.iter().for_each(|item| self.expression(item)),
            Expr::Tuple(node) => node.items.iter().for_each(|item| self.expression(item)),
            Expr::Map(node) => {
                let is_text = |key: &Expr<'_>| match key {
                    Expr::Const(key) => key.value.as_str().is_some(),
                    _ => true,
                };
                if !node.keys.iter().all(is_text) {
                    self.unlike = Some("it writes a dict whose keys are no text");
                }
                node.keys.iter().chain(&node.values).for_each(|item| self.expression(item));
            }
        }
    }
}

fn variable<'a>(node: &Expr<'a>) -> Option<&'a str> {
    match node {
        Expr::Var(node) => Some(node.id),
        _ => None,
    }
}

/// Whether `node` is the variable `name`, or its `key`, under filters, tests and slices.
fn reaches(node: &Expr<'_>, name: &str, key: Option<&str>) -> bool {
    match node {
        Expr::Filter(node) => node.expr.as_ref().is_some_and(|inner| reaches(inner, name, key)),
        Expr::Test(node) => reaches(&node.expr, name, key),
        Expr::Slice(node) => reaches(&node.expr, name, key),
        Expr::GetAttr(node) => key == Some(node.name) && variable(&node.expr) == Some(name),
        Expr::GetItem(node) => {
            let subscript = match &node.subscript_expr {
                Expr::Const(subscript) => subscript.value.as_str(),
                _ => None,
            };
            key.is_some() && key == subscript && variable(&node.expr) == Some(name)
        }
        _ => key.is_none() && variable(node) == Some(name),
    }
}

#[cfg(test)]
mod tests;
