"""Plays a person with a browser before the sign-in, consent and device pages: plain forms, no JavaScript.

As a program: `python browser.py AUTHORIZE-URL REDIRECT-URI` signs USER_NAME in and prints the answer's parameters.
"""

import re
import sys
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urljoin, urlsplit

import environment
import requests

_STEPS = 12
_REFUSING = re.compile(r"cancel|decline|deny|refuse|back|different|another|^no$", re.IGNORECASE)


class Page(HTMLParser):
    """The forms of a page, and its text."""

    def __init__(self, html):
        super().__init__()
        self.forms, self.text, self._button = [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = {name: value or "" for name, value in attributes}
        if tag == "form":
            method, action = attributes.get("method", "get").lower(), attributes.get("action", "")
            self.forms.append({"action": action, "method": method, "fields": [], "buttons": []})
        elif tag in ("input", "button") and self.forms:
            kind = attributes.get("type", "submit" if tag == "button" else "text").lower()
            named = {"name": attributes.get("name"), "value": attributes.get("value", ""), "kind": kind}
            if kind == "submit":
                self._button = {**named, "label": named["value"] if tag == "input" else ""}
                self.forms[-1]["buttons"].append(self._button)
            elif kind != "checkbox" or "checked" in attributes:
                self.forms[-1]["fields"].append(named)

    def handle_endtag(self, tag):
        if tag == "button":
            self._button = None

    def handle_data(self, data):
        if self._button is not None:
            self._button["label"] += data
        if data.strip():
            self.text.append(data.strip())


class Browser:
    """One person's browser: cookies, and the name and password they type."""

    def __init__(self, user=environment.USER_NAME, password=environment.USER_PASSWORD):
        self._user, self._password = user, password
        self._session = requests.Session()
        self._session.verify = environment.CA

    def visit(self, url, redirect=None, code=None, deliver=False):
        """Goes through the pages from `url` on. Returns the parameters that reach `redirect` (and with `deliver`
        brings them there), or the text of the last page."""
        answer = self._session.get(url, allow_redirects=False, timeout=30)
        for _ in range(_STEPS):
            if answer.is_redirect:
                target = urljoin(answer.url, answer.headers["Location"])
                if redirect and target.startswith(redirect):
                    if deliver:
                        requests.get(target, timeout=30)
                    parts = urlsplit(target)
                    return dict(parse_qsl(parts.query or parts.fragment))
                answer = self._session.get(target, allow_redirects=False, timeout=30)
                continue
            page = Page(answer.text)
            form = self._choose(page.forms)
            if form is None:
                return f"HTTP {answer.status_code}: {' '.join(page.text)}"
            target = urljoin(answer.url, form["action"])
            filled = self._fill(form, code)
            if redirect and target.startswith(redirect):
                if deliver:
                    requests.post(target, data=filled, timeout=30)
                return filled
            if form["method"] == "post":
                answer = self._session.post(target, data=filled, allow_redirects=False, timeout=30)
            else:
                answer = self._session.get(target, params=filled, allow_redirects=False, timeout=30)
        return f"still no end after {_STEPS} pages; the last one says: {' '.join(Page(answer.text).text)}"

    def _choose(self, forms):
        """The first form that does not only refuse."""
        agreeing = [form for form in forms if not form["buttons"] or self._agree(form)]
        return agreeing[0] if agreeing else None

    @staticmethod
    def _agree(form):
        return next((b for b in form["buttons"] if not _REFUSING.search(b["label"].strip() or b["value"])), None)

    def _fill(self, form, code):
        filled = {}
        for field in form["fields"]:
            if not field["name"]:
                continue
            value = field["value"]
            if field["kind"] == "password":
                value = self._password
            elif field["kind"] in ("text", "email", "tel") and not value:
                value = code if code and re.search(r"code|otc", field["name"], re.IGNORECASE) else self._user
            filled[field["name"]] = value
        button = self._agree(form)
        if button and button["name"]:
            filled[button["name"]] = button["value"]
        return filled


if __name__ == "__main__":
    parameters = Browser().visit(sys.argv[1], redirect=sys.argv[2])
    if isinstance(parameters, str):
        print(parameters)
        sys.exit(1)
    for name, value in parameters.items():
        print(f"{name}={value}")
