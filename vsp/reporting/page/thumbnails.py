"""Small pictures in the page itself, each once."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

from vsp.errors import DatasetError
from vsp.utils.images import open_rgb

_SIDE = 256  # pixels of the longer side
_QUALITY = 70  # of the JPEG, of 100


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of the page."""

    number: int  # among the addresses of `Thumbnails`
    width: int  # pixels of the picture that it is made of; boxes are in them
    height: int


@dataclass(slots=True)
class Thumbnails:
    """Pictures as `data:` addresses."""

    most: int  # pictures
    addresses: list[str] = field(default_factory=list)
    n_left_out: int = 0  # pictures beyond `most`
    _known: dict[tuple[str, str], Thumbnail | str] = field(
        default_factory=dict
    )  # by path and SHA-256
    _of_bytes: dict[str, Thumbnail] = field(default_factory=dict)  # by SHA-256

    def add(self, path: str, sha256: str) -> Thumbnail | str:
        """The picture, or why there is none. `sha256` is that of the plan; empty: not known."""
        key = path, sha256
        if key not in self._known:
            self._known[key] = self._of_bytes.get(sha256) or self._added(path, sha256)
        return self._known[key]

    def _added(self, path: str, sha256: str) -> Thumbnail | str:
        if len(self.addresses) >= self.most:
            self.n_left_out += 1
            return "it is left out, to keep the page small"
        try:
            picture = self._made(path, sha256)
        except DatasetError as error:
            return str(error)
        if sha256:  # runs of a study have pictures with the same bytes
            self._of_bytes[sha256] = picture
        return picture

    def _made(self, path: str, sha256: str) -> Thumbnail:
        picture, found = open_rgb(path)
        if sha256 and found != sha256:
            raise DatasetError("the picture was changed since the run was planned")
        width, height = picture.size
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        file = BytesIO()
        picture.save(file, format="WEBP", quality=_QUALITY, method=4)
        self.addresses.append(
            f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
        )
        return Thumbnail(len(self.addresses) - 1, width, height)
