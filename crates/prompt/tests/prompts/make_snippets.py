#!/usr/bin/env python3
"""Records what transformers' Jinja makes of small templates: snippets.jsonl beside it.

usage: make_snippets.py > snippets.jsonl   (in an environment with transformers 5)

Each line: {"source", "text"} or {"source", "error"}. Every template sees the messages of MESSAGES, the tools of
TOOLS and nothing else.
"""
import json

from transformers.utils.chat_template_utils import _compile_jinja_template

MESSAGES = [
    {"role": "system", "content": " a-b \x1c\x1d\u0085"}, {"role": "user", "content": "one two  three\nfour\x0bfive\u2028six"},
    {"role": "assistant", "content": "Grüße ßİ ǅ 7½ ٣", "reasoning_content": None}, {"role": "user", "content": "x=1,y=2,z"},
]
TOOLS = [{"type": "function", "function": {"name": "f", "description": None, "parameters": {
    "numbers": [1, -1, 0, 1.0, -0.0, 0.1, 1e-4, 1e-5, 1e-7, 1.5e-10, 123456789.0, 1e15, 1e16, 1e17, 1e20, 1e22, 1.5e300, 5e-324, 2.5, 1/3,
                123456789012345680.0, 10**18, 2**63, 10**30, True],
    "items": {"b": 1, "a": [None, "it's", 'say "x"', "\t\\"]}, "empty": {}, "none": []}}}]
P = "tools[0].function.parameters"
SNIPPETS = [
    # numbers
    "{{ %s.numbers }}" % P, "{{ %s.numbers | tojson }}" % P, "{%% for n in %s.numbers %%}{{ n }} {%% endfor %%}" % P,
    "{%% for n in %s.numbers %%}{{ n ~ '' }} {{ n | string }};{%% endfor %%}" % P, "{{ 1e-7 }} {{ 1.5e300 }} {{ 1e20 }} {{ 0.0000001 }} {{ 100000000000000000.0 }}",
    "{{ 7 / 2 }} {{ 8 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }}", "{{ 1 + 1.0 }} {{ 3 * 1.5 }} {{ 10 - 0.1 }} {{ 0.1 + 0.2 }}",
    "{{ 7 | float }} {{ '1e-7' | float }} {{ 'x' | float }} {{ '12' | int }} {{ 'x' | int }} {{ 3.9 | int }}", "{{ 2.5 | round }} {{ 3.14159 | round(2) }} {{ -2.5 | round }} {{ 3.7 | round(0, 'floor') }}",
    "{{ 1.0 == 1 }} {{ 1 == true }} {{ '1' == 1 }} {{ 1.5 > 1 }}", "{{ 10 ** 30 }}", "{{ [3, 1, 2] | sum }} {{ [1.5, 2] | sum }} {{ [3, 1, 2] | max }} {{ [3, 1.5] | min }}", "{{ -5 | abs }} {{ -1e-7 | abs }}",
    # methods of str
    "{{ messages[1].content.split() }} {{ messages[1].content.rsplit(None, 1) }} {{ messages[3].content.split(',', 1) }} {{ messages[3].content.rsplit(',', 1) }}",
    "{{ messages[1].content.splitlines() }} {{ messages[1].content.splitlines(true) | length }}", "{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('-') }} {{ 'abc'.rpartition('-') }}",
    "{{ 'abc'.removeprefix('ab') }} {{ 'abc'.removesuffix('bc') }} {{ 'abc'.removeprefix('x') }}", "{{ 'abcabc'.index('c') }} {{ 'abcabc'.rindex('c') }} {{ 'abcabc'.find('c') }} {{ 'abcabc'.rfind('c') }} {{ 'abc'.find('x') }}",
    "{{ 'abc'.index('x') }}", "{{ 'abcabc'.index('c', 3) }}", "{{ 'abcabc'.find('c', 3) }} {{ 'abcabc'.find('c', 0, 2) }}", "{{ 'éabc'.index('a') }} {{ 'éabc'.find('b') }} {{ '日本'.rfind('本') }}",
    "{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ '+7'.zfill(4) }} {{ 'ab'.zfill(1) }} {{ '--7'.zfill(5) }}", "[{{ 'a'.center(4) }}] [{{ 'ab'.center(5, '*') }}] [{{ 'a'.ljust(3, '.') }}] [{{ 'a'.rjust(3) }}] [{{ 'é'.center(3, '日') }}]",
    "{{ 'abc'.encode() }}", "{{ 'abc'.encode('utf-8') | length }}", "{{ 'a'.encode().decode() }}", "[{{ messages[0].content.strip() }}] [{{ messages[0].content.lstrip() }}] [{{ messages[0].content.rstrip() }}] [{{ messages[0].content | trim }}]",
    "{{ 'xxaxx'.strip('x') }} {{ 'abcba'.lstrip('ab') }} {{ 'abcba'.rstrip('ab') }} {{ '  a '.strip(none) }}.", "{{ 'a'.upper() }} {{ 'STRASSE'.lower() }} {{ 'hELLO wORLD'.title() }} {{ 'hELLO'.capitalize() }} {{ 'aB'.swapcase() }} {{ 'AbC'.casefold() }}",
    "{{ messages[2].content.upper() }}", "{{ messages[2].content.lower() }}", "{{ messages[2].content | upper }} {{ messages[2].content | lower }}", "{{ messages[2].content.title() }}", "{{ messages[2].content | title }}", "{{ messages[2].content | capitalize }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('c') }} {{ 'abc'.startswith('b', 1) }}", "{{ 'a,b'.replace(',', ';') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'aaa' | replace('a', 'b', 1) }} {{ 'ab'.replace('', '-') }}",
    "{{ 'abab'.count('ab') }} {{ 'aaaa'.count('aa') }} {{ 'abc'.count('') }}", "{{ ''.join(['a', 'b']) }} {{ ', '.join(messages | map(attribute='role')) }}", "{{ 'x'.join([1, 2]) }}",
    "{{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ 'AB'.isupper() }} {{ 'ab'.islower() }} {{ 'Ab Cd'.istitle() }} {{ ''.isalpha() }}", "{{ '٣'.isdigit() }} {{ '½'.isnumeric() }} {{ 'é'.isalpha() }} {{ 'É'.isupper() }}",
    "{{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ '-' * 0 }}|", "{{ '%s and %s' % ('a', 1) }}", "{{ '%s' % 'x' }}", "{{ '%d%%' % 5 }}", "{{ '%.2f' % 1.005 }}", "{{ '%s' | format('x') }}", "{{ '{} {}'.format('a', 1) }}", "{{ '{0}-{name}'.format('a', name='b') }}", "{{ '{:>5}'.format('a') }}",
    "{{ 'a' 'b' }}", "{{ 'abc'[0] }} {{ 'abc'[-1] }} {{ 'abc'[1:] }} {{ 'abc'[:-1] }} {{ 'abc'[::-1] }} {{ 'abcdef'[::2] }} {{ 'éü'[1] }} {{ 'abc'[5:] }}|", "{{ 'abc'[5] }}|", "{{ 'b' in 'abc' }} {{ 'x' not in 'abc' }} {{ '' in 'a' }}",
    "{{ 'a\\tb'.expandtabs(4) }}", "{{ 'abc'.translate({97: 'x'}) }}", "{{ 'a b'.split(' ', maxsplit=0) }} {{ 'a b'.split(sep=' ') }}",
    # lists and dicts
    "{{ [1, 2, 3].index(2) }}", "{{ [1].index(2) }}", "{{ [1, 2, 2].count(2) }}", "{{ [1].copy() }}", "{% set x = [1] %}{% set _ = x.append(2) %}{{ x }}", "{% set x = [2, 1] %}{{ x.sort() }}", "{{ [1, 2] + [3] }}", "{{ [1, 2] * 2 }}", "{{ (1, 2) + (3,) }}",
    "{{ {'a': 1}.copy() }}", "{{ tools[0].copy().type }}", "{{ {'a': 1}.update({'b': 2}) }}", "{{ {'a': 1}.get('b', 2) }} {{ {'a': 1}['a'] }} {{ {'a': 1}.b is defined }}", "{{ %s['items'] }} {{ %s.get('items') }}" % (P, P), "{{ %s.items() | list | length }}" % P,
    "{%% for k, v in %s['items'] | items %%}{{ k }}={{ v }};{%% endfor %%}" % P, "{%% for k, v in %s['items'] | dictsort %%}{{ k }}={{ v }};{%% endfor %%}" % P, "{{ %s.keys() | list }} {{ %s.values() | list | length }}" % (P, P),
    "{{ {'a': 1}.pop('a') }}", "{{ {'a': 1}.setdefault('b', 1) }}", "{{ dict(a=1, b='x') }}", "{{ {'a': 1} == {'a': 1.0} }} {{ [1] == [1] }} {{ (1,) == [1] }}", "{{ 'a' in {'a': 1} }} {{ 1 in [1.0] }} {{ {'a': 1} | length }}", "{{ {1: 'x', none: 2, true: 3} }}",
    # tests, filters, globals
    "{{ tools is sequence }} {{ tools is iterable }} {{ tools[0] is mapping }} {{ 'a' is string }} {{ 1 is number }} {{ true is number }} {{ none is none }} {{ 1.0 is float }} {{ 1 is integer }} {{ true is boolean }}", "{{ raise_exception is callable }}", "{{ 'a' is callable }} {{ range is callable }}",
    "{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby(3) }} {{ 'a' is lower }} {{ 'A' is upper }} {{ 1 is eq 1 }} {{ 2 is gt 1 }} {{ 'a' is in 'abc' }} {{ x is undefined }} {{ none is sameas none }} {{ 'a' is filter }} {{ 'upper' is filter }}",
    "{{ messages[1].content | wordcount }}", "{{ 'a b' | wordwrap(1) }}", "{{ 'abc' | first }} {{ [1, 2] | last }} {{ 'abc' | reverse }} {{ [1, 2] | reverse | list }} {{ 'abc' | list }} {{ [3, 1] | sort }} {{ ['b', 'A'] | sort }} {{ [1, 1, 2] | unique | list }}",
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'in', ['user']) | map(attribute='role') | list }} {{ [0, 1, none] | select | list }} {{ [1, 2, 3] | reject('odd') | list }}",
    "{% for role, group in messages | groupby('role') %}{{ role }}:{{ group | length }} {% endfor %}", "{{ [1, 2, 3, 4, 5] | batch(2) | list }}", "{{ [1, 2, 3, 4, 5] | slice(2) | list }}", "{{ 'abcdef' | truncate(5, true, '..', 0) }}", "{{ '<a>' | e }} {{ '<a>' | escape }}", "{{ 'a b' | urlencode }}", "{{ 'a\\nb' | indent(2) }}|{{ 'a\\nb' | indent(2, true) }}", "{{ 'abc' | center(7) }}|", "{{ '<b>x</b> y' | striptags }}",
    "{{ none | default('x') }} {{ none | default('x', true) }} {{ x | default('y') }} {{ '' | d('z', true) }}", "{{ [1, [2]] | tojson }} {{ {'a': none} | tojson(indent=2) }} {{ 'é<' | tojson }} {{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }} {{ [1] | tojson(separators=(',', ':')) }}",
    "{{ [1] | pprint }}", "{{ 'x' | safe }} {{ 5 | string }} {{ none | string }} {{ true | string }} {{ [true, none] | join(' ') }} {{ messages | map(attribute='role') | join('|') }} {{ 'abc' | join('-') }}", "{{ 1000 | filesizeformat }}", "{{ ['x'] | random }}", "{{ [1, 2] | xmlattr }}",
    "{{ lipsum(n=1) }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}", "{% set j = joiner(', ') %}{% for m in messages %}{{ j() }}{{ m.role }}{% endfor %}", "{{ range(3) | list }} {{ range(1, 7, 2) | list }} {{ range(3, 0, -1) | list }}", "{{ self }}", "{{ namespace(a=1).a }}",
    # statements
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.cycle('a', 'b') }}{{ loop.previtem.role if loop.previtem is defined }}{{ loop.nextitem.role if loop.nextitem is defined }};{% endfor %}",
    "{% for m in messages %}{% if loop.changed(m.role) %}{{ m.role }}{% endif %}{% endfor %}", "{% for m in messages if m.role == 'user' %}{{ loop.index }}{% else %}none{% endfor %}", "{% for m in [] %}{% else %}none{% endfor %}", "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index == 4 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
    "{% for a in [1, [2, [3]]] recursive %}{% if a is iterable %}[{{ loop(a) }}]{% else %}{{ a }}{% endif %}{% endfor %}", "{% set ns = namespace(x=1) %}{% for m in messages %}{% set ns.x = ns.x + 1 %}{% endfor %}{{ ns.x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set x %}block{% endset %}{{ x }}{{ x is string }}", "{% set x | upper %}block{% endset %}{{ x }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}", "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, b=3) }}{{ f(b=4, a=5) }}", "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}x{% endcall %}", "{% filter upper %}a{{ 'b' }}{% endfilter %}", "{% with a = 1 %}{{ a }}{% endwith %}", "{% raw %}{{ x }}{% endraw %}", "{% generation %}g{% endgeneration %}", "{{ x.y }}", "{{ x }}|{{ x is defined }}", "{{ messages[9] }}|", "{{ messages[9].role }}", "{{ none.x }}|", "{{ messages[0].nothing }}|", "{{ messages[0]['nothing'].deep }}",
    "{{ (messages | length) > 3 and 'yes' or 'no' }} {{ not none }} {{ '' or 'x' }} {{ 'a' and 'b' }} {{ none or [] }} {{ 1 if false }}|", "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}", "{{ 1 < 'a' }}", "{{ 'a' + 1 }}", "{{ 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1] }}", "{{ true + 1 }} {{ true | int }}", "{# comment #}x{#- y -#} z", "a  {%- if true %}  b  {%- endif %}  c", "  {% if true %}\n  x\n  {% endif %}\ny\n\n", "{{- ' a ' -}}  b", "{% if true -%}\n a\n{%- endif +%}\n b", "{%- set x = 'a\\nb\\t\\x41\\u00e9\\'' -%}{{ x }}",
    "{{ messages[0]['content'] is string and messages[0].content.startswith(' ') }}", "{% for m in messages[1:3] %}{{ m.role }}{% endfor %} {{ messages[-1].content }} {{ messages[:-1] | length }} {{ messages[::2] | length }} {{ messages[1:] | map(attribute='role') | list }}", "{{ messages[0] }}", "{{ messages[1].content | tojson }} {{ [messages[3].content] }}", "{{ ['\\u2028'] }}", "{{ ['é', '日本', '\\u00a0', '\\u00ad', '\\x7f'] }}", "{{ '日本' | length }} {{ '😀' | length }} {{ '😀'[0] }}", "{{ strftime_now('%Y') | length }}", "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% block b %}in{% endblock %}", "{% do [].append(1) %}", "{% autoescape true %}{{ '<' }}{% endautoescape %}", "{{ ''.__class__ }}", "{{ messages.__len__() }}", "{{ 'a'.__add__('b') }}", "{{ caller }}", "{{ loop }}", "{{ varargs }}", "{{ True }} {{ False }} {{ None }} {{ true }} {{ none }}", "{{ [1, 2,] }} {{ (1, 2) }} {{ () }} {{ {} }}", "{{ 1_000 }} {{ 0x1f }} {{ 0b11 }} {{ 1.5e3 }}", "{{ 'x' if x else 'y' if y else 'z' }}", "{{ not (1 == 1) }} {{ 1 != 2 }} {{ 1 in [1] and 2 not in [1] }}", "{{ -1 | abs }} {{ (-1) | abs }} {{ -'1' | int }}", "{{ 'ß'.upper() }} {{ 'İ'.lower() | length }} {{ 'ΑΣ'.lower() }}", "{{ 'ǅ'.lower() }} {{ 'ŉ'.upper() }}",
]


def main():
    for source in dict.fromkeys(SNIPPETS):
        line = {"source": source}
        try:
            line["text"] = _compile_jinja_template(source).render(messages=MESSAGES, tools=TOOLS, documents=None, add_generation_prompt=True)
        except Exception as error:
            line["error"] = type(error).__name__
        print(json.dumps(line, ensure_ascii=True))
    print(json.dumps({"messages": MESSAGES, "tools": TOOLS}, ensure_ascii=True))


main()
