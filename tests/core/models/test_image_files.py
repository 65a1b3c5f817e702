"""Encoded images: every kind of file becomes upright RGB or one InputError that says what to do."""

from __future__ import annotations

import io
import os
import pickle
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from photos import photo
from zoo.errors import InputError, OptionError
from zoo.models import image_files
from zoo.models.image_files import fetch_image, read_image
from zoo.models.images import load_images

RAMP = np.linspace(0, 255, 20 * 30).astype(np.uint8).reshape(20, 30)
COLOUR = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def pixels(data: bytes | Path) -> np.ndarray:
    image = load_images(data)[0].image
    assert isinstance(image, Image.Image)
    assert image.mode == "RGB"
    return np.asarray(image)


def refusal(data: object, **options: object) -> InputError:
    with pytest.raises(InputError) as error:
        load_images(data, **options)
    return error.value


# Every colour mode a file can have.


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_what_pillow_converts_it_to(mode):
    image = Image.fromarray(COLOUR).convert(mode)
    assert np.array_equal(np.asarray(load_images(image)[0].image), np.asarray(image.convert("RGB")))


def test_one_bit_images_are_black_and_white():
    bits = Image.fromarray(RAMP > 100)
    assert sorted(np.unique(pixels(encoded(bits)))) == [0, 255]


def test_sixteen_bit_grey_is_scaled_not_clipped():
    wide = RAMP.astype(np.uint16) * 257
    assert np.array_equal(pixels(encoded(Image.fromarray(wide)))[..., 0], RAMP)
    assert np.array_equal(pixels(encoded(Image.fromarray(wide), "TIFF"))[..., 0], RAMP)
    big_endian = Image.frombytes("I;16B", (30, 20), wide.astype(">u2").tobytes())
    assert np.array_equal(np.asarray(load_images(big_endian)[0].image)[..., 1], RAMP)


def test_sixteen_bit_pgm_is_scaled_not_clipped():
    header = b"P5 30 20 65535\n"
    assert np.array_equal(pixels(header + (RAMP.astype(">u2") * 257).tobytes())[..., 2], RAMP)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_known_range_are_refused(dtype):
    error = refusal(encoded(Image.fromarray(RAMP.astype(dtype)), "TIFF"))
    assert "no known range" in error.message
    assert "uint8" in str(error.fix)


def test_a_mode_pillow_cannot_convert_is_refused_by_name():
    assert "La pixels" in refusal(Image.new("La", (4, 4))).message


@pytest.mark.filterwarnings("error")
def test_palette_images_keep_their_colours_transparent_or_not():
    image = Image.fromarray(COLOUR).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(encoded(image)), expected)
    assert np.array_equal(pixels(encoded(image, transparency=3)), expected)
    assert np.array_equal(pixels(encoded(image, transparency=bytes(range(16)))), expected)


def test_transparency_is_dropped_not_painted_over():
    image = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    assert pixels(encoded(image))[0, 0].tolist() == [200, 100, 50]


def test_jpeg_is_decoded_in_full():
    data = encoded(Image.fromarray(COLOUR).resize((300, 200)), "JPEG", quality=90)
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_cmyk_jpeg_opens():
    assert pixels(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG"))[0, 0].tolist() == pytest.approx(
        [0, 255, 255], abs=4
    )


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for format in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        assert Image.open(io.BytesIO(data)).n_frames == 3, format
        assert pixels(data)[4, 4].tolist() == [255, 0, 0] or format == "GIF"
        assert pixels(data)[4, 4].argmax() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation):
    corner = Image.new("RGB", (16, 8), "black")
    corner.paste("white", (0, 0, 4, 4))  # the upright picture: white at the top left, wider than high
    undone = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions that a viewer has to turn back
    stored = corner.transpose(undone[orientation]) if orientation > 1 else corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(stored, format, exif=exif.tobytes() if format != "TIFF" else exif, **options)
        (loaded,) = load_images(data)
        assert loaded.size == (8, 16), format
        assert np.array_equal(np.asarray(loaded.image), np.asarray(corner)), format
        assert np.array_equal(np.asarray(load_images(Image.open(io.BytesIO(data)))[0].image), np.asarray(corner))


def test_broken_metadata_does_not_spoil_good_pixels():
    data = encoded(Image.fromarray(COLOUR), exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff\0\1")
    assert np.array_equal(pixels(data), COLOUR)
    assert np.array_equal(pixels(encoded(Image.fromarray(COLOUR), exif=b"Exif\0\0nonsense")), COLOUR)


# Damage and hostility.


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "JPEG2000"])
def test_a_truncated_file_is_refused(format):
    data = encoded(Image.fromarray(COLOUR).resize((90, 80)), format)
    for keep in (len(data) // 2, len(data) * 3 // 4):
        error = refusal(data[:keep])
        assert "damaged" in error.message or "truncated" in error.message or "not an image" in error.message


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_damage_raises_anything_but_an_input_error(data):
    format = data.draw(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "PCX"]))
    stored = bytearray(encoded(Image.fromarray(COLOUR), format))
    for _ in range(data.draw(st.integers(1, 6))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    try:
        (loaded,) = load_images(bytes(stored))
    except InputError:
        return
    assert min(loaded.size) >= 1


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_an_input_error(data):
    refusal(data)


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [14_000, 60_000, 2_000_000_000])
def test_an_absurdly_large_image_is_refused_before_it_is_decoded(side):
    error = refusal(bomb(side, side))
    assert "absurdly large" in error.message
    assert "ZOO_MAX_IMAGE_PIXELS" in str(error.fix)


@pytest.mark.filterwarnings("error")
def test_the_size_limit_can_be_moved(monkeypatch):
    data = encoded(Image.new("1", (15_000, 12_000)))  # 180 million pixels
    assert "absurdly large" in refusal(data).message
    assert "absurdly large" in refusal(encoded(Image.new("L", (10, 10))), max_pixels=99).message
    monkeypatch.setenv("ZOO_MAX_IMAGE_PIXELS", "99")
    assert "absurdly large" in refusal(encoded(Image.new("L", (10, 10)))).message
    assert load_images(encoded(Image.new("L", (11, 9))))[0].size == (9, 11)
    monkeypatch.setenv("ZOO_MAX_IMAGE_PIXELS", "many")
    with pytest.raises(OptionError, match="ZOO_MAX_IMAGE_PIXELS"):
        load_images(encoded(Image.new("L", (10, 10))))


@pytest.mark.filterwarnings("error")
def test_raising_the_limit_reaches_pillow_and_is_undone(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded(Image.new("L", (10, 10)))
    assert load_images(data)[0].size == (10, 10)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_zero_sized_image_is_refused():
    assert "no pixels" in refusal(Image.new("RGB", (0, 5))).message
    assert "no pixels" in refusal(Image.new("L", (5, 0))).message


def test_postscript_is_never_run():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert "program" in refusal(eps).message


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
        (b"just some text", "not an image"),
    ],
)
def test_what_is_not_an_image_is_said(start, says):
    error = refusal(start)
    assert says in error.message


# Paths.


def test_a_misspelt_file_gets_a_near_name(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(encoded(Image.fromarray(COLOUR), "JPEG"))
    error = refusal(tmp_path / "holidays.jpg")
    assert error.fix == str(tmp_path / "holiday.jpg")
    assert error.asked == str(tmp_path / "holidays.jpg")
    assert "folder" in refusal(tmp_path / "none" / "a.jpg").message


def test_an_empty_file_a_folder_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    assert "empty" in refusal(tmp_path / "empty.png").message
    assert "empty" in refusal(b"").message
    error = refusal(tmp_path)
    assert "folder" in error.message
    assert "glob" in str(error.fix)
    os.mkfifo(tmp_path / "pipe")
    assert "regular" in refusal(str(tmp_path / "pipe")).message


def test_strange_paths_raise_nothing_else(tmp_path):
    for path in ("\0", "a" * 10_000, "", "~", "\udcff"):
        refusal(path)


def test_all_spellings_of_a_file_are_the_same_image(tmp_path):
    path = Path(photo("chelsea"))
    expected = pixels(path)
    for spelling in (str(path), path.as_uri(), path.read_bytes(), os.fsencode(path)):
        if isinstance(spelling, bytes) and not spelling.startswith(b"\x89PNG"):
            continue  # bytes are an encoded image, never a path
        assert np.array_equal(pixels(spelling), expected)
    assert "not an image" in refusal(os.fsencode(path)).message


def test_other_schemes_are_refused_by_name():
    error = refusal("s3://bucket/cat.jpg")
    assert "s3://" in error.message
    assert "download" in str(error.fix)


def test_a_path_with_a_colon_and_slashes_is_still_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd:").mkdir()
    Path("odd:/cat.png").write_bytes(encoded(Image.fromarray(COLOUR)))
    assert np.array_equal(pixels("odd://cat.png"), COLOUR)


# The web, for real, on loopback.


class Site(BaseHTTPRequestHandler):
    photo = encoded(Image.fromarray(COLOUR))

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.answer(302, b"", Location="/cat.png")
        elif self.path == "/trap":
            self.answer(302, b"", Location="file:///etc/hostname")
        elif self.path == "/circle":
            self.answer(302, b"", Location="/circle")
        elif self.path == "/page":
            self.answer(200, b"<!doctype html><p>hello")
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(0.05)
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.photo)))
            self.end_headers()
            self.wfile.write(self.photo[: len(self.photo) // 2])
        elif self.path == "/cat.png":
            self.answer(200, self.photo)
        else:
            self.answer(404, b"")

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.handle_error = lambda *args: None  # clients that hang up are what is tested here
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_address_is_an_image(site):
    for path in ("/cat.png", "/moved"):
        (loaded,) = load_images(site + path)
        assert np.array_equal(np.asarray(loaded.image), COLOUR)
        assert loaded.source == site + path
    assert loaded.photo().size == (30, 20)


@pytest.mark.parametrize(
    ("path", "says"),
    [("/none", "404"), ("/trap", "302"), ("/circle", "302"), ("/page", "web page"), ("/cut", "truncated|damaged|read")],
)
def test_an_address_that_gives_no_image_is_explained(site, path, says):
    with pytest.raises(InputError, match=says) as error:
        load_images(site + path)
    assert error.value.asked == site + path


def test_an_address_gives_up_on_size_and_on_time(site):
    with pytest.raises(InputError, match="more than 100 bytes"):
        fetch_image(site + "/cat.png", max_bytes=100)
    with pytest.raises(InputError, match=r"0\.3 seconds"):
        fetch_image(site + "/slow", seconds=0.3)


def test_an_address_nobody_answers_is_explained():
    with pytest.raises(InputError, match="cannot be read"):
        load_images("http://127.0.0.1:9/cat.png")
    for address in ("http://", "http://[", "https://exa mple/\n"):
        refusal(address)


def test_errors_survive_pickling():
    error = refusal(b"no image")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_reading_threads_do_not_disturb_each_other(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    data = encoded(Image.fromarray(COLOUR))
    seen: list[bool] = []

    def read() -> None:
        seen.extend(np.array_equal(np.asarray(read_image(data)), COLOUR) for _ in range(30))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 120
    assert Image.MAX_IMAGE_PIXELS == 10
    assert not image_files._PILLOW_LIMIT.locked()
