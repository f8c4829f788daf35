"""The node's Python, which lacks what the image's recipe leaves out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from product.agent.tests import support_http as http
from product.agent.trust import standins
from product.agent.trust.tests.test_client import Publisher
from product.image.build import DEFAULT_RECIPE
from product.image.recipe import Recipe

# Hides what the recipe prunes, then finds a release. Arguments: globs, server, pin, store.
PROGRAM = """
import fnmatch, importlib.machinery, json, re, sys
globs, server, pin, store = json.loads(sys.argv[1]), *sys.argv[2:]
pruned = re.compile("|".join(map(fnmatch.translate, globs)))
find = importlib.machinery.PathFinder.find_spec

def find_spec(name, path=None, target=None):
    base = "usr/lib/python3/dist-packages/" + name.replace(".", "/")
    if pruned.match(base + ".py") or pruned.match(base + "/__init__.py"):
        return None
    return find(name, path, target)

importlib.machinery.PathFinder.find_spec = find_spec
from product.agent.trust import standins, client as trust
from product.agent.config import Config
from product.agent.errors import AgentError
from product.agent.sources.configured import configured_source

result = {}
try:
    config = Config(server=server, pubkey=pin)
    with configured_source(config) as source:
        release = trust.find_release(source, config, architecture="x86_64", metadata_dir=store)
    result["version"] = release.version
except AgentError as error:
    result["code"] = error.code
result["modules"] = sorted(sys.modules)
result["standins"] = sorted(
    name for name, module in sys.modules.items() if type(module) is standins._StandIn
)
from tuf.ngclient import RequestsFetcher
from securesystemslib.signer import CryptoSigner, GPGKey
result["refused"] = []
for use in (
    lambda: RequestsFetcher()._get_session("http://host/"),
    lambda: CryptoSigner.generate_ed25519(),
    lambda: GPGKey.from_dict("id", {}),
    lambda: GPGKey(),
):
    try:
        use()
    except standins.StandInError as error:
        result["refused"].append(str(error))
print(json.dumps(result))
"""


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(tmp_path / "publisher")
    made.publish("0.2.0")
    return made


def on_the_node(publisher: Publisher, store: Path) -> dict[str, Any]:
    prune = Recipe.load(DEFAULT_RECIPE).root.prune
    with http.serve(publisher.directory) as server:
        done = subprocess.run(
            [sys.executable, "-B", "-c", PROGRAM, json.dumps(prune), server.url,
             str(publisher.pubkey), str(store)],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[4],
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def test_a_release_is_found_without_what_the_image_leaves_out(
    publisher: Publisher, tmp_path: Path
) -> None:
    result = on_the_node(publisher, tmp_path / "store")
    assert result["version"] == "0.2.0"
    unused = [name for name in result["modules"] if standins.unused(name)]
    assert len(unused) > 5
    assert result["standins"] == unused, "the recipe ships what nobody uses"
    costly = {"urllib3", "chardet", "charset_normalizer", "idna", "subprocess", "http.cookiejar"}
    assert costly & set(result["modules"]) == set()
    assert [text.partition(" ")[0] for text in result["refused"]] == [
        "requests.Session",
        "securesystemslib.signer._crypto_signer.CryptoSigner.generate_ed25519",
        "securesystemslib.signer._gpg_signer.GPGKey.from_dict",
        "securesystemslib.signer._gpg_signer.GPGKey",
    ]


def test_a_signature_of_a_kind_that_is_left_out_counts_for_nothing(
    publisher: Publisher, tmp_path: Path
) -> None:
    root = publisher.directory / "metadata/1.root.json"
    document = json.loads(root.read_text())
    for key in document["signed"]["keys"].values():
        key["keytype"], key["scheme"] = "rsa", "pgp+rsa-pkcsv1.5"
    root.write_text(json.dumps(document))
    assert on_the_node(publisher, tmp_path / "store")["code"] == "bad-metadata"


def test_what_is_installed_is_used() -> None:
    program = (
        "from product.agent.trust import standins; import sys\n"
        "standins.install(); standins.install()\n"
        "assert sum(type(f) is standins._Finder for f in sys.meta_path) == 1\n"
        "import requests; from securesystemslib.signer import CryptoSigner\n"
        "CryptoSigner.generate_ed25519(); print(requests.Session)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[4],
    )
    assert "requests.sessions" in done.stdout
