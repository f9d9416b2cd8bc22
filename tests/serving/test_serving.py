"""`vsp view` shows what the index names, to a browser on this machine, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import socket
from pathlib import Path

import pytest
from helpers import made
from helpers.served import serving

from vsp.serving.addresses import Address, parse_address
from vsp.storage.results import Results
from vsp.storage.study import Study, write_study

SECRET = "the content of a file outside"
CHART = 'id="chart-curves"'


@pytest.fixture
def project(work):
    """A folder with two runs, one of them with two settings, beside a file that nobody may read."""
    folder = work / "project"
    made.made(folder / "results" / "small" / "logistic")
    shutil.copytree(folder / "results/small/logistic", folder / "results/small/mass-mean")
    made.made(folder / "results" / "other" / "logistic")
    (work / "secret.txt").write_text(SECRET)
    (folder / "results" / "small" / "logistic" / "notes.txt").write_text(SECRET)
    return folder


@pytest.fixture
def served(project):
    with serving(project) as server:
        yield server


def test_the_index_lists_the_runs_and_its_links_lead_to_their_pages(served, project):
    index = served.get("/")
    links = re.findall(r'<a href="(/[^"]*)"', index.text)
    assert index.status == 200
    assert sorted(links) == [
        "/run/other",  # its page is that of its only setting
        "/run/small", "/run/small/logistic", "/run/small/mass-mean",
    ]  # fmt: skip
    for link in links:
        reply = served.get(link)
        assert reply.status == 200 and CHART in reply.text
    peak = Results(project / "results/other/logistic", project / "results/other").summary()["peak"]
    assert f"{peak['estimate']:.3f}" in index.text


def test_a_page_changes_with_its_results_and_not_before(served, project):
    first = served.get("/run/other").body
    assert served.get("/run/other").body == first
    shutil.rmtree(project / "results/other/logistic")
    made.made(project / "results/other", made.predictions(made.accuracies(7)))
    assert served.get("/run/other").body != first
    shutil.rmtree(project / "results/other")
    assert served.get("/run/other").status == 404
    assert "/run/other" not in served.get("/").text


def test_nothing_is_written(served, project):
    before = _everything(project)
    for path in ("/", "/run/small", "/run/none", "/favicon.ico"):
        served.get(path)
    assert _everything(project) == before


def _everything(folder: Path):
    return sorted((str(p), p.lstat().st_mtime_ns) for p in (folder, *folder.rglob("*")))


@pytest.mark.parametrize(
    "path",
    [
        "/results", "/results/", "/results/small", "/run", "/run/", "/run/small/", "/.",
        "/run/small/logistic/summary.json", "/run/small/logistic/notes.txt", "/run/small/notes.txt",
        "/run/../../secret.txt", "/run/small/../../../secret.txt", "/../secret.txt",
        "/run/%2e%2e/%2e%2e/secret.txt", "/run/..%2f..%2fsecret.txt", "/run/small%2flogistic",
        "/run/small/..%2fother%2flogistic", "/run/small/..%5c..%5csecret.txt",
        "/run/small%00", "/run/small%00.html", "/run/%ff", "/run/small%", "/run/sm%zzall",
        "/run//etc/passwd", "//etc/passwd", "/etc/passwd", "/%2fetc%2fpasswd",
        "file:///etc/passwd", "http://localhost/etc/passwd", "/run/" + "x" * 3000, "*", "run/small",
        "/run/.", "/run/./small", "/study/small", "/study/../small", "/run/small/logistic/probes",
        "/run/%252e%252e", "/run/small;/logistic", "/RUN/small",
    ],
)  # fmt: skip
def test_an_address_that_the_index_does_not_name_is_no_page(served, path):
    reply = served.get(path)
    assert reply.status == 404
    assert SECRET not in reply.text and "root:x:0" not in reply.text


def test_addresses_of_odd_names_lead_back_to_them():
    for name in ("a b", "ä", "100%", "a#b", "a?b", "x&y", "<i>", "a\nb"):
        address = Address("run", name, "logistic-x")
        assert parse_address(address.path()) == address
    assert parse_address("/run/small?x=../..") == Address("run", "small")


def test_every_link_of_the_index_leads_to_a_page_whatever_the_name(project):
    results = project / "results"
    for name in (".hidden", "-ä b.c", "C:\\x'%41", "\udcff\udcfe"):
        made.made(results / name / "logistic", name="x")
    (results / "loop").symlink_to("loop")
    (results / "small" / "loop").symlink_to("loop")
    with serving(project) as served:
        index = served.get("/")
        links = re.findall(r'<a href="(/run/[^/"]*)"', index.text)
        assert len(links) == 2 + 3  # a hidden folder is no run
        assert [served.get(link).status for link in links] == [200] * len(links)


def test_the_page_has_what_was_found_since_beside_its_results(served, project, work):
    """Results at another position lie beside those of the page, in the same folder of the run."""
    before = served.get("/run/small/logistic").body
    mean = made.made(work / "aside/small/logistic", position="mean").folder
    mean.rename(project / "results/small/logistic-mean")
    assert served.get("/run/small/logistic").body != before


def test_results_at_another_position_are_not_read_through_a_link_that_leads_out(project, work):
    outside = made.made(work / "outside/small/logistic", position="mean").folder
    (project / "results/small/logistic-mean").symlink_to(outside)
    with serving(project) as served:
        reply = served.get("/run/small/logistic")
    assert reply.status == 500 and "leads out of" in reply.text and CHART not in reply.text


@pytest.mark.parametrize("what", ["home", "setting", "file"])
def test_a_link_that_leads_out_of_the_results_is_not_followed(project, work, what):
    outside = work / "outside"
    made.made(outside)
    results = project / "results"
    if what == "home":
        (results / "linked").symlink_to(outside)
    elif what == "setting":
        (results / "linked").mkdir()
        (results / "linked/logistic").symlink_to(outside / "logistic")
    else:
        shutil.copytree(outside, results / "linked")
        (results / "linked/logistic/scores.jsonl").unlink()
        (results / "linked/logistic/scores.jsonl").symlink_to(outside / "logistic/scores.jsonl")
    with serving(project) as served:
        reply, index = served.get("/run/linked"), served.get("/")
    assert reply.status == 500 and "leads out of" in reply.text
    assert CHART not in reply.text
    assert "leads out of" in index.text and 'href="/run/linked"' not in index.text


def test_results_may_be_a_link_of_the_user_and_links_inside_it_are_followed(project, work):
    (project / "results").rename(work / "large-disk")
    (project / "results").symlink_to(work / "large-disk")
    (project / "results/again").symlink_to("small")
    with serving(project) as served:
        assert served.get("/run/small").status == 200
        assert served.get("/run/again").status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "localhost", "localhost:1", "127.0.0.1:1", "[::1]:{port}",
     "localhost.evil.example:{port}", "localhost:{port}.evil.example", "", "0.0.0.0:{port}",
     "user@localhost:{port}", "localhost:{port}\r\nHost: evil.example"],
)  # fmt: skip
def test_a_request_for_another_host_name_is_refused(served, host):
    """A page of another site whose name is made to lead here cannot read results."""
    reply = served.get("/", host=host.format(port=served.port))
    assert reply.status == 421 and b"small" not in reply.body


def test_a_request_without_a_host_is_refused(served):
    assert served.send(b"GET / HTTP/1.0\r\n\r\n").status == 421
    assert b"small" not in served.send(b"GET /\r\n\r\n").body


def test_both_names_of_this_machine_are_answered(served):
    for name in ("localhost", "127.0.0.1"):
        assert served.get("/", host=f"{name}:{served.port}").status == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PROPFIND", "get"]
)
def test_only_get_and_head_are_answered(served, method):
    reply = served.get("/", method=method)
    assert reply.status == 405 and reply.headers["allow"] == "GET, HEAD"
    assert b"small" not in reply.body


def test_head_has_the_headers_of_get_and_no_body(served):
    get, head = served.get("/run/small"), served.get("/run/small", method="HEAD")
    assert head.body == b"" and head.status == 200
    assert head.headers["content-length"] == str(len(get.body)) == get.headers["content-length"]
    assert served.get("/none", method="HEAD").body == b""


@pytest.mark.parametrize("path", ["/", "/run/small", "/none", "/favicon.ico"])
def test_every_answer_has_a_policy_that_runs_no_foreign_script(served, path):
    headers = served.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"
    assert "python" not in headers["server"].lower()


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.x\r\n\r\n", b"<script>\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"GET /" + b"x" * 70_000 + b"\r\n\r\n"],
)  # fmt: skip
def test_a_malformed_request_is_refused_without_repeating_it(served, sent):
    reply = served.send(sent)
    assert 400 <= reply.status < 600 and b"<script" not in reply.body and b"\x16" not in reply.body
    assert reply.headers["content-type"].startswith("text/plain")
    assert served.get("/").status == 200


def test_a_request_that_does_not_end_does_not_stop_others(served):
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(b"GET / HT")
        assert served.get("/").status == 200


def test_results_that_cannot_be_read_are_one_line_and_the_others_are_shown(served, project):
    (project / "results/other/logistic/scores.jsonl").write_text("<script>alert(1)</script>")
    reply = served.get("/run/other")
    assert reply.status == 500 and "mixture" in reply.text
    assert served.get("/run/small").status == 200


def test_a_name_with_markup_is_text(project):
    name = "<img src=x onerror=alert(1)>"
    made.made(project / "results" / name, name="x")
    with serving(project) as served:
        index = served.get("/")
        link = re.search(r'href="(/run/%3C[^"/]*)"', index.text)
        assert name not in index.text and link
        page = served.get(link[1])
        assert page.status == 200 and name not in page.text


def test_a_folder_without_runs_says_so(work):
    with serving(work) as served:
        reply = served.get("/")
    assert reply.status == 200 and "holds no run" in reply.text


def test_the_server_listens_on_this_machine_only(served):
    others = {one[4][0] for one in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, served.port), timeout=2).close()
    assert os.path.exists("/proc/net/tcp")  # noqa: PTH110
    at = f"{served.port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    local = [line.split()[1] for line in lines if line.split()[1].endswith(f":{at}")]
    assert set(local) == {f"0100007F:{at}"}


def test_a_study_is_listed_and_has_a_page_once_it_has_results(project, work):
    question = "does it look? <b onclick=window.broken=1>"
    write_study(Study("small", question, "fake", "/somebody/data/x", ("blank",)), project)
    (project / "results/small-blank/logistic").mkdir(parents=True)
    (project / "results/small-blank/logistic/summary.json").write_text("{")
    write_study(Study("later", "", "fake", "data/x"), project)
    (project / "studies" / "broken.yaml").write_text("model: [\n")
    (work / "other.yaml").write_text((project / "studies/small.yaml").read_text())
    (project / "studies" / "linked.yaml").symlink_to(work / "other.yaml")
    made.made(project / "results" / "small-original")
    with serving(project) as served:
        index, page = served.get("/"), served.get("/study/small")
        others = [
            served.get(f"/study/{name}").status for name in ("later", "broken", "linked", "no")
        ]
    assert re.findall(r'href="(/study/[^"]*)"', index.text) == ["/study/small"]
    assert "1 of 2" in index.text and "broken.yaml" in index.text and "leads out of" in index.text
    assert page.status == 200 and CHART in page.text and "does it look? &lt;b" in page.text
    assert "<b onclick" not in index.text + page.text
    assert "<dd>x</dd>" in page.text and "summary.json" in page.text
    assert str(project) not in page.text
    assert others == [500, 500, 500, 404]


@pytest.mark.parametrize("name", ["..", ".", "%2e%2e", "a%2fb", "a%00", "%", "%g1", ""])
def test_an_address_with_a_name_that_no_folder_can_have_is_refused(name):
    assert parse_address(f"/run/{name}") is None and parse_address(f"/run/small/{name}") is None
