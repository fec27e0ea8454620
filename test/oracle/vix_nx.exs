# The real Vix, Image and Nx against what `Image.ZeroShot.Source` promises of them.
#
# None of them is a dependency, so `bin/test` runs on the stand-ins of `test/support`. With the real
# ones among the `deps` of mix.exs, `{:image, "~> 0.72"}` and `{:nx, "~> 0.13"}`, the stand-ins make
# way, and these two should pass:
#
#     MIX_ENV=test mix run test/oracle/vix_nx.exs
#     mix test test/image/zero_shot/picture/vix_image_test.exs test/image/zero_shot/picture/nx_tensor_test.exs

ExUnit.start(autorun: false)

for module <- [Vix.Nif, Image, Nx.Defn] do
  Code.ensure_loaded?(module) ||
    raise "#{inspect(module)} is not there: see the head of this file"
end

for app <- [:vix, :image, :nx], do: IO.puts("#{app} #{Application.spec(app, :vsn)}")
IO.puts("libvips #{Vix.Vips.version()}")

defmodule Image.ZeroShot.Oracle.VixNx do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Call.Options
  alias Image.ZeroShot.Test.Pictures
  alias Vix.Vips.Operation
  alias Vix.Vips.Image, as: Vimage

  @moduletag :tmp_dir
  @limits Options.embed!([])

  # libvips knows a file again by its name: one that is overwritten is not read again.
  defp sample(name \\ "dog.jpg") do
    {:path, path} = Pictures.sample(name)
    {:ok, image} = Vimage.new_from_file(path)
    image
  end

  defp planes(picture), do: Pictures.planes(picture, 256, 256)

  defp same(picture, other, about \\ nil) do
    assert {:ok, planes} = planes(picture)
    assert planes(other) == {:ok, planes}, inspect({about, other})
  end

  defp difference({:ok, a}, {:ok, b}) do
    pairs = Enum.zip(:binary.bin_to_list(a), :binary.bin_to_list(b))
    Enum.sum(for {a, b} <- pairs, do: abs(a - b)) / length(pairs)
  end

  # 16 bits with something in the low 8
  defp wide(image) do
    {:ok, wide} = Operation.cast(image, :VIPS_FORMAT_USHORT)
    {:ok, wide} = Operation.linear(wide, [256.9], [77.0])
    {:ok, wide} = Operation.cast(wide, :VIPS_FORMAT_USHORT)
    space = if Vimage.bands(image) < 3, do: "GREY16", else: "RGB16"
    {:ok, wide} = Operation.copy(wide, interpretation: :"VIPS_INTERPRETATION_#{space}")
    wide
  end

  defp rgba do
    {:ok, alpha} = Operation.extract_band(sample("cat.png"), 0)
    {:ok, image} = Operation.extract_band(sample(), 0, n: 3)
    {:ok, image} = Operation.bandjoin([image, alpha])
    image
  end

  test "an 8-bit image equals its file", %{tmp_dir: dir} do
    {:ok, grey} = Operation.colourspace(sample(), :VIPS_INTERPRETATION_B_W)

    for image <- [sample(), grey, rgba()], suffix <- [".png", ".tif", ".webp[lossless]"] do
      path = Path.join(dir, "#{Vimage.bands(image)}#{suffix}")
      :ok = Vimage.write_to_file(image, path)
      path = String.replace(path, "[lossless]", "")
      same({:path, path}, Image.open!(path), {Vimage.bands(image), suffix})
    end
  end

  test "a 16-bit image equals its file", %{tmp_dir: dir} do
    {:ok, grey} = Operation.colourspace(sample(), :VIPS_INTERPRETATION_B_W)

    for image <- [sample(), grey, rgba()], suffix <- [".png", ".tif"] do
      path = Path.join(dir, "#{Vimage.bands(image)}#{suffix}")
      :ok = Vimage.write_to_file(wide(image), path)
      opened = Image.open!(path)
      assert Vimage.format(opened) == :VIPS_FORMAT_USHORT
      same({:path, path}, opened, {Vimage.bands(image), suffix})
    end
  end

  test "a CMYK image equals its file", %{tmp_dir: dir} do
    {:ok, cmyk} = Operation.colourspace(sample(), :VIPS_INTERPRETATION_CMYK)

    for {suffix, off} <- [{".tif", 0}, {".jpg", 1.0}] do
      path = Path.join(dir, "inks" <> suffix)
      :ok = Vimage.write_to_file(cmyk, path)
      opened = Image.open!(path)
      assert Vimage.interpretation(opened) == :VIPS_INTERPRETATION_CMYK
      assert difference(planes({:path, path}), planes(opened)) <= off
    end
  end

  test "every colour space equals its conversion by libvips", %{tmp_dir: dir} do
    for space <- ~w(B_W RGB16 GREY16 scRGB LAB LABQ LABS LCH CMC XYZ YXY HSV)a do
      {:ok, image} = Operation.colourspace(sample(), :"VIPS_INTERPRETATION_#{space}")
      same(Image.to_colorspace!(image, :srgb), image)
    end

    for space <- ~w(scRGB LAB XYZ)a do
      {:ok, image} = Operation.colourspace(rgba(), :"VIPS_INTERPRETATION_#{space}")
      same(Image.to_colorspace!(image, :srgb), image)
    end

    path = Path.join(dir, "image.hdr")
    {:ok, float} = Operation.colourspace(sample(), :VIPS_INTERPRETATION_scRGB)
    :ok = Vimage.write_to_file(float, path)
    assert difference(planes(sample()), planes(Image.open!(path))) < 2.0
  end

  test "colours by a profile equal those of the file" do
    for name <- ~w(p3.jpg p3.png p3_alpha.png adobe.jpg adobe.tif grey.jpg inks.jpg inks.tif) do
      path = Path.join("test/fixtures/profiles", name)
      planes = &Pictures.planes(&1, 32, 24, color_profile: :srgb)
      assert difference(planes.({:path, path}), planes.(Image.open!(path))) < 2.0, name
      assert planes.(Image.open!(path)) != Pictures.planes(Image.open!(path), 32, 24), name
    end
  end

  test "floats in sRGB count to 255" do
    {:ok, float} = Operation.cast(sample(), :VIPS_FORMAT_FLOAT)
    {:ok, double} = Operation.cast(sample(), :VIPS_FORMAT_DOUBLE)
    for image <- [float, double], do: same(sample(), image)

    {:ok, half} = Operation.linear(sample(), [1 / 255], [0.0])
    assert {:error, %Error{reason: :unsupported_image, message: message}} = planes(half)
    assert message =~ "none is above 1"

    # Brighter than 255 is white, as libvips saves it.
    {:ok, bright} = Operation.linear(sample(), [1.3], [-20.0])
    {:ok, rounded} = Operation.round(bright, :VIPS_OPERATION_ROUND_RINT)
    {:ok, bytes} = Operation.cast(rounded, :VIPS_FORMAT_UCHAR)
    assert difference(planes(bytes), planes(bright)) < 0.1
  end

  test "the first of several pages is read", %{tmp_dir: dir} do
    pages = [sample("cat.png"), sample(), sample("pizza.webp")]

    pages =
      for page <- pages, do: page |> Image.thumbnail!("64x64", fit: :fill) |> Image.flatten!()

    {:ok, strip} = Operation.arrayjoin(pages, across: 1)

    {:ok, strip} = Vimage.mutate(strip, &Vix.Vips.MutableImage.set(&1, "page-height", :gint, 64))

    for suffix <- ~w(.gif .webp .tif) do
      path = Path.join(dir, "pages" <> suffix)
      :ok = Vimage.write_to_file(strip, path)
      all = Image.open!(path, pages: :all)
      assert {64, 192} = {Vimage.width(all), Vimage.height(all)}
      same(Image.open!(path), all)
    end
  end

  test "a sequential image can be read once, and says so", %{tmp_dir: dir} do
    path = Path.join(dir, "image.png")
    :ok = Vimage.write_to_file(sample(), path)
    image = Image.open!(path, access: :sequential)
    same(sample(), image)

    for image <- [image, elem(Operation.gaussblur(image, 1.0), 1)] do
      assert {:error, %Error{reason: :invalid_image, message: message}} = planes(image)
      assert message =~ "can be read once"
      assert message =~ "Vix.Vips.Image.copy_memory/1"
    end

    {:ok, copy} = path |> Image.open!(access: :sequential) |> Vimage.copy_memory()
    same(sample(), copy)
    same(sample(), copy)
  end

  test "a truncated file is an error if it was opened with fail_on", %{tmp_dir: dir} do
    for suffix <- ~w(.png .jpg) do
      path = Path.join(dir, "cut" <> suffix)
      :ok = Vimage.write_to_file(sample(), path)
      bytes = File.read!(path)
      File.write!(path, binary_part(bytes, 0, div(byte_size(bytes), 2)))

      assert {:ok, _lenient} = planes(Image.open!(path))

      {:ok, strict} = Vimage.new_from_file(path, "fail-on": :VIPS_FAIL_ON_TRUNCATED)

      for image <- [strict, Image.open!(path, fail_on: :truncated)] do
        assert {:error, %Error{reason: :invalid_image, message: message}} = planes(image)
        assert message =~ "is the file damaged or cut short?"
      end

      assert {:error, %Error{reason: :invalid_image}} = planes({:path, path})
    end
  end

  test "an image whose reference is gone is an error" do
    for ref <- [nil, make_ref()] do
      assert {:error, %Error{reason: :invalid_image}} = Source.prepare(%Vimage{ref: ref}, @limits)
    end
  end

  test "a tensor equals the image that it was made of" do
    for image <- [sample(), rgba()],
        shape <- [:hwc, :whc],
        type <- [:u8, :s32, :s64, :u16, :f16, :f32, :f64, :bf16] do
      tensor = image |> Image.to_nx!(shape: shape) |> Nx.as_type(type)
      names = if shape == :whc, do: [:width, :height, :bands], else: [:height, :width, :bands]
      same(image, Nx.rename(tensor, names))
    end

    for type <- [:f16, :f32, :f64] do
      same(sample(), sample() |> Image.to_nx!() |> Nx.as_type(type) |> Nx.divide(255))
    end

    first = sample() |> Image.to_nx!() |> Nx.transpose(axes: [2, 0, 1])
    assert Nx.names(first) == [:bands, :height, :width]
    same(sample(), first)
    same(sample("cat.png"), sample("cat.png") |> Image.to_nx!() |> Image.from_nx!())
  end

  test "a tensor that is not a picture is an error" do
    tensor = Image.to_nx!(sample())

    for {tensor, says} <- [
          {Nx.vectorize(tensor, :height), "without vectorized axes"},
          {Nx.to_template(tensor), "with values, got one of Nx.TemplateBackend"},
          {Nx.as_type(tensor, :c64), "got: {:c, 64}"},
          {Nx.as_type(tensor, :f8), "got: {:f, 8}"},
          {Nx.as_type(tensor, :u4), "got: {:u, 4}"},
          {Nx.new_axis(tensor, 0), "give one picture, such as tensor[0]"},
          {Nx.add(Nx.as_type(tensor, :s64), 1), "value 256"},
          {Nx.subtract(Nx.as_type(tensor, :s64), 1), "value -1"},
          {Nx.as_type(tensor, :f32) |> Nx.log() |> Nx.subtract(9), "value -"}
        ] do
      assert {:error, %Error{reason: :unsupported_image, message: message}} = planes(tensor)
      assert message =~ says
    end

    test = self()

    Nx.Defn.jit_apply(
      fn tensor ->
        send(test, Source.prepare(tensor, @limits))
        tensor
      end,
      [tensor]
    )

    assert_received {:error, %Error{message: message}}
    assert message =~ "with values, got one of Nx.Defn.Expr"
  end
end

{:ok, _} = Application.ensure_all_started(:vix)
%{failures: failures} = ExUnit.run()
System.halt(min(failures, 1))
