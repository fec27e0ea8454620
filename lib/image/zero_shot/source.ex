defprotocol Image.ZeroShot.Source do
  @moduledoc """
  The protocol that turns a term into a picture.

  These are pictures:

    * a binary - the bytes of a JPEG, PNG, WebP, GIF (its first frame), BMP or TIFF file
    * `{:path, path}` - such a file, of at most `:max_bytes`, which has to be read within `:timeout`
    * `{:rgb, binary, height, width}`, `{:rgba, binary, height, width}` and
      `{:grey, binary, height, width}` - pixels row by row, one byte a channel
    * a `Vix.Vips.Image` - in any colour space and depth that libvips converts to sRGB
    * an `Nx.Tensor` - height x width (grey), or height x width x channels with 1 (grey), 2 (grey,
      alpha), 3 (RGB) or 4 (RGB, alpha) channels
    * any struct that implements this protocol:

          defimpl Image.ZeroShot.Source, for: MyApp.Upload do
            def prepare(upload, limits) do
              Image.ZeroShot.Source.prepare({:path, upload.path}, limits)
            end
          end

  All of them keep their alpha here: the option `:background` decides what shows through.

  ## Orientation

  A file's picture is turned upright as by Pillow's `ImageOps.exif_transpose`. The first of these places
  that has an orientation counts:

  | format | orientation |
  | --- | --- |
  | JPEG | the first Exif block, which further ones continue; XMP |
  | PNG | `eXIf`, before or after the pixels; ImageMagick's text `Raw profile type exif`; XMP in the text `XML:com.adobe.xmp` |
  | WebP | `EXIF`; `XMP `; each only if the file's flags announce it |
  | TIFF | the tag `Orientation`; XMP |
  | GIF, BMP | none |

  In Exif and TIFF the tag may have any numeric type except `BYTE`, and its first value counts. In XMP
  the first `tiff:Orientation` counts, be it an attribute or an element. XMP does not count if Exif has
  the tag, whatever its value. A value other than 1 to 8, or an Exif block that cannot be read, leaves
  the picture as it is stored.

  ## WebP

  The first picture is read, from a still or an animation, and placed where it belongs on its canvas.
  Alpha counts if the file's flags or its lossless pixels announce it. A file that libwebp refuses is
  refused, including one with a chunk cut short after its pixels, or with a later frame outside its
  canvas. One difference remains: lossy pixels that lack one byte are decoded here, with 0 for that
  byte.

  ## Colour profiles

  `color_profile: :srgb` converts colours by the file's ICC profile as soon as they are decoded:
  relative colorimetric, without black point compensation, as `icc_transform` of libvips does. Alpha stays
  unchanged. The `:background` that shows through it is in sRGB already.

  | picture | profile |
  | --- | --- |
  | JPEG | all parts in `APP2`, in any order |
  | PNG | `iCCP`; `sRGB`, `gAMA`, `cHRM` and `cICP` do not count, as in libvips |
  | WebP | `ICCP`, if the file's flags announce it |
  | TIFF | tag 34675; none in CIE Lab |
  | `Vix.Vips.Image` | the field `icc-profile-data`, converted by libvips |
  | GIF, BMP, pixels as a tuple, `Nx.Tensor` | none: the option has no effect |

  A picture without a profile stays unchanged. So does a picture whose profile is for another colour
  model, such as a grey picture with a profile for RGB; libvips takes such a picture for sRGB too. CMYK
  without a profile for CMYK is converted by Pillow's plain formula.

  A profile that is damaged, lacks a part, is not a profile of a camera, monitor, press or colour space, or has
  more than 100 tags or 4 MiB is an `:invalid_image`. So is one whose primaries do not add up to white. A
  profile that moxcms, the crate behind it, cannot apply is an `:unsupported_image`. Both messages name
  `color_profile: :ignore`, which never reads the profile. Of 16 bits a channel the high 8 are converted.

  ## TIFF

  The first page of classic TIFF and BigTIFF is read, in strips or tiles, with samples side by side or in
  planes. Colours may be grey, a palette, RGB, CMYK, YCbCr or CIE Lab. The file may be uncompressed, or
  coded with PackBits, LZW, Deflate, JPEG, or for fax (groups 3 and 4, modified Huffman).

  Anything else is an `:unsupported_image`, and the message names it: signed or floating-point samples, and
  other codings such as LZMA, Zstandard, WebP and JPEG of the old kind.

  ## Cameras and Livebook

  Cameras deliver pixels that need no decoding: `{:rgb, frame, 480, 640}`. `Kino.Input.image/2` delivers
  them in a file:

      image = Kino.Input.read(input)
      pixels = image.file_ref |> Kino.Input.file_path() |> File.read!()
      Image.ZeroShot.classify({:rgb, pixels, image.height, image.width}, labels)

  The map of older Livebooks, with the pixels under `:data`, can be passed directly.

  ## `Vix.Vips.Image`

  The size is checked first, so libvips never computes the pixels of an image over `:max_pixels` or
  `:max_side`. A pipeline that fails returns an error. libvips computes in the calling process, and
  `:timeout` does not interrupt it.

  | image | how it is read |
  | --- | --- |
  | 8 bits, grey or sRGB | unchanged |
  | 16 bits, `GREY16` or `RGB16` | the high 8 bits, like the decoder of files |
  | CMYK | without its profile, like the decoder of files: red = (255 - cyan) x (255 - black) / 255 |
  | scRGB, Lab, LCh, XYZ, HSV and others | converted by `Vix.Vips.Operation.colourspace/3` |
  | floats or wide integers, grey or sRGB | 0 to 255, rounded; -255 to 510 is clipped, values beyond are refused |
  | several pages (`pages: :all`) | the first page |
  | more than four bands | refused, because nothing says which band is alpha. In CMYK the first four count |

  An sRGB image of floats is refused if none is above 1, or if some have fractions and all are below
  16. libvips shows such an image as black, but its values may be meant from 0 to 1. If so, multiply it by
  255; if it really is that dark, cast it to 8 bits.

  With `color_profile: :srgb`, `Vix.Vips.Operation.icc_transform/3` converts images in grey, RGB or CMYK
  that have a profile of that kind. Depending on its version, libvips answers a damaged profile with an
  error or converts nothing. An image that was converted before, for instance by
  `Image.to_colorspace!/2`, may keep a profile that no longer fits. Remove it with
  `Image.remove_metadata!/2`, or leave the option at `:ignore`.

  Orientation is not applied: call `Image.autorotate!/1` first.

  > #### Damaged files {: .warning}
  >
  > By default libvips fills the missing part of a damaged file with grey or black, and the image does not
  > show it. (Given as bytes or as a path, the same file is an error.) To make libvips refuse it, open it
  > with `Image.open(path, fail_on: :truncated)` or with
  > `Vix.Vips.Image.new_from_file(path, "fail-on": :VIPS_FAIL_ON_TRUNCATED)`. Mind the dash: Vix
  > silently ignores options that libvips does not know, such as `fail_on:`.

  > #### Sequential access {: .info}
  >
  > An image opened with `access: :sequential` can be read once. Copy it with
  > `Vix.Vips.Image.copy_memory/1` to read it again.

  ## `Nx.Tensor`

  **Axes.** Names decide: `:height`, `:width` and `:channels` in any order, also as `:h`, `:w`, `:c`,
  as `:y`, `:x`, or with `:bands`, the name that `Image.to_nx/2` gives. A tensor without names is
  read as height, width, channels.

  **Numbers.** Integers of every width count from 0 to 255. Floats count from 0 to 1 or from 0 to
  255, and the values tell which:

  | values | counts to |
  | --- | --- |
  | all 0 | either |
  | none above 1, some with a fraction | 1 |
  | only 0 and 1 | refused |
  | some above 1, all below 16, some with a fraction | refused |
  | whole numbers, some above 1 | 255 |
  | some 16 or above | 255 |

  Colours and alpha are judged separately and have to agree. A refused tensor could be read in two ways,
  and the wrong one is a black or white picture. Convert it to bytes, which are never ambiguous:

      tensor |> Nx.multiply(255) |> Nx.round() |> Nx.as_type(:u8)  # counts to 1
      tensor |> Nx.round() |> Nx.as_type(:u8)                      # counts to 255

  Negative values, values above 255, NaN and infinity are errors that name the value and its place.
  A tensor that was normalised for a model is therefore an error.

  Vectorized tensors, templates, expressions inside `defn`, complex numbers and types of fewer than
  8 bits are errors too, and so are floats of 8 bits.

  ## Tested versions

  Neither library is a dependency, and this library's tests use stand-ins. The same tests, and more with
  files of each kind, passed with Vix 0.41.0 on libvips 8.16.1, Image 0.72.0 and Nx 0.13.1, on Elixir
  1.18.3 and 1.20.3.

  image_vision 0.4 takes only a `Vix.Vips.Image`. Of the images that it takes, these are refused here:
  images over the limits, images of five bands, and images of floats that are black or far out of range as
  described above.
  """

  @fallback_to_any true

  @typedoc """
  A picture for the native library: the bytes of a file, pixels row by row with one byte a channel, or
  numbers of any type.
  """
  @type source ::
          {:encoded, binary()}
          | {:raw, binary(), height :: pos_integer(), width :: pos_integer(), channels :: 1..4}
          | {:numbers, binary(), layout()}

  @typedoc """
  How to read numbers, which are in the byte order of the machine.

    * `:number` - the type
    * `:scale` - `:told` for the rule of an `Nx.Tensor`, `:bytes` for that of a `Vix.Vips.Image`
    * `:shape` - height, width and channels
    * `:strides` - the distance, in numbers, to the next row, column and channel
    * `:inks` - whether four channels are CMYK instead of RGBA
  """
  @type layout :: %{
          number:
            :u8 | :u16 | :u32 | :u64 | :s8 | :s16 | :s32 | :s64 | :f16 | :bf16 | :f32 | :f64,
          scale: :told | :bytes,
          shape: {pos_integer(), pos_integer(), 1..4},
          strides: {pos_integer(), pos_integer(), pos_integer()},
          inks: boolean()
        }

  @typedoc "The limits of this call, from its options. Refuse what exceeds them before you read it."
  @type limits :: %{
          required(:max_bytes) => pos_integer(),
          required(:max_pixels) => pos_integer(),
          required(:max_side) => pos_integer(),
          required(:max_decode_bytes) => pos_integer(),
          required(:color_profile) => :ignore | :srgb,
          optional(atom()) => term()
        }

  @doc """
  Turns a picture into a file's bytes or into pixels, without decoding anything.

  Runs in the process of the caller. Returns `{:error, error}` if the term cannot be a picture.
  """
  @spec prepare(t(), limits()) :: {:ok, source()} | {:error, Image.ZeroShot.Error.t()}
  def prepare(picture, limits)
end

defimpl Image.ZeroShot.Source, for: BitString do
  alias Image.ZeroShot.Picture.Reader

  def prepare(bytes, _limits) when is_binary(bytes), do: {:ok, {:encoded, bytes}}
  def prepare(bits, _limits), do: Reader.refuse(bits)
end

defimpl Image.ZeroShot.Source, for: Tuple do
  alias Image.ZeroShot.Picture.{Pixels, Reader}

  def prepare({:path, path}, %{max_bytes: max} = limits) when is_binary(path),
    do: Reader.read(path, max, Map.get(limits, :timeout, :infinity))

  def prepare({kind, data, height, width}, limits)
      when kind in [:grey, :rgb, :rgba] and is_binary(data),
      do: Pixels.of_binary(kind, data, height, width, limits)

  def prepare(tuple, _limits), do: Reader.refuse(tuple)
end

# What an image input of Livebook delivers.
defimpl Image.ZeroShot.Source, for: Map do
  alias Image.ZeroShot.Error
  alias Image.ZeroShot.Picture.{Pixels, Reader}

  def prepare(%{format: :rgb, data: data, height: height, width: width}, limits)
      when is_binary(data),
      do: Pixels.of_binary(:rgb, data, height, width, limits)

  def prepare(%{format: format, data: data}, _limits)
      when format in [:png, :jpeg] and is_binary(data),
      do: {:ok, {:encoded, data}}

  def prepare(%{file_ref: _, format: _}, _limits) do
    Error.error(
      :unsupported_image,
      "the pixels of this image input are in a file: give {:rgb, " <>
        "File.read!(Kino.Input.file_path(image.file_ref)), image.height, image.width}, or " <>
        "{:path, Kino.Input.file_path(image.file_ref)} where its format is :png or :jpeg"
    )
  end

  def prepare(map, _limits), do: Reader.refuse(map)
end

defimpl Image.ZeroShot.Source, for: Any do
  alias Image.ZeroShot.Picture.{NxTensor, Reader, VixImage}

  # By name, at run time: neither library is a dependency, and both may be there all the same.
  def prepare(%{__struct__: Vix.Vips.Image} = image, limits), do: VixImage.read(image, limits)
  def prepare(%{__struct__: Nx.Tensor} = tensor, limits), do: NxTensor.read(tensor, limits)
  def prepare(other, _limits), do: Reader.refuse(other)
end
