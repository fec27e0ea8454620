defprotocol Image.ZeroShot.Source do
  @moduledoc """
  What can be classified: the protocol by which a term becomes the bytes or the pixels of a picture.

  Pictures as they come:

    * a binary - the bytes of a JPEG, PNG, WebP, GIF (its first frame), BMP or TIFF file
    * `{:path, path}` - such a file; at most `:max_bytes` of it are read
    * a `Vix.Vips.Image` - 8 bits, grey or sRGB, with or without alpha; taken the way up it is,
      so turn a photo first with `Image.autorotate!/1` if the `Image` library has not done so
    * an `Nx.Tensor` - height x width x channels, of type `{:u, 8}`; one channel is grey, two are
      grey and alpha, three are RGB, four are RGB and alpha

  A file's picture is turned upright as Pillow's `ImageOps.exif_transpose` does. What counts is the
  first of these in which an orientation is found:

  | format | orientation |
  | --- | --- |
  | JPEG | the first Exif block; XMP |
  | PNG | `eXIf`, before or after the pixels; ImageMagick's text `Raw profile type exif`; XMP in the text `XML:com.adobe.xmp` |
  | WebP | `EXIF`; `XMP ` |
  | TIFF | the tag `Orientation` |
  | GIF, BMP | none |

  In Exif and TIFF the tag may be of any numeric type but `BYTE`, and its first value counts. In XMP
  it is the first `tiff:Orientation`, an attribute or an element. XMP does not count where Exif has
  the tag, whatever its value. A value other than 1 to 8, or an Exif block that cannot be read,
  leaves the picture as it is stored.

  Any other struct of yours can be a picture:

      defimpl Image.ZeroShot.Source, for: MyApp.Upload do
        def prepare(upload, limits) do
          Image.ZeroShot.Source.prepare({:path, upload.path}, limits)
        end
      end
  """

  @fallback_to_any true

  @typedoc """
  A picture as the native library takes it: a file's bytes, or pixels row by row, one byte a channel.
  """
  @type source ::
          {:encoded, binary()}
          | {:raw, binary(), height :: pos_integer(), width :: pos_integer(), channels :: 1..4}

  @typedoc "The limits of this call, from its options. Refuse what exceeds them before you read it."
  @type limits :: %{
          required(:max_bytes) => pos_integer(),
          required(:max_pixels) => pos_integer(),
          required(:max_side) => pos_integer(),
          optional(atom()) => term()
        }

  @doc """
  Turns a picture into a file's bytes or into pixels, without decoding anything.

  Runs in the process of the caller. Returns `{:error, error}` for what cannot be a picture.
  """
  @spec prepare(t(), limits()) :: {:ok, source()} | {:error, Image.ZeroShot.Error.t()}
  def prepare(picture, limits)
end

defimpl Image.ZeroShot.Source, for: BitString do
  alias Image.ZeroShot.Picture

  def prepare(bytes, _limits) when is_binary(bytes), do: {:ok, {:encoded, bytes}}
  def prepare(bits, _limits), do: Picture.refuse(bits)
end

defimpl Image.ZeroShot.Source, for: Tuple do
  alias Image.ZeroShot.Picture

  def prepare({:path, path}, %{max_bytes: max}) when is_binary(path), do: Picture.read(path, max)
  def prepare(tuple, _limits), do: Picture.refuse(tuple)
end

defimpl Image.ZeroShot.Source, for: Any do
  alias Image.ZeroShot.{Picture, Pixels}

  # By name, at run time: neither library is a dependency, and both may be there all the same.
  def prepare(%{__struct__: Vix.Vips.Image} = image, limits), do: Pixels.from_vix(image, limits)
  def prepare(%{__struct__: Nx.Tensor} = tensor, limits), do: Pixels.from_nx(tensor, limits)
  def prepare(other, _limits), do: Picture.refuse(other)
end
