# Stand-ins for the structs of other libraries, only where those libraries are not there. Their
# pixels come from a function, so that a test can see whether anybody asked for them.

unless Code.ensure_loaded?(Vix.Vips.Image) do
  defmodule Vix.Vips.Image do
    @moduledoc false
    defstruct [:ref]

    def width(%{ref: %{shape: {_height, width, _bands}}}), do: width
    def height(%{ref: %{shape: {height, _width, _bands}}}), do: height
    def bands(%{ref: %{shape: {_height, _width, bands}}}), do: bands

    def interpretation(%{ref: ref}),
      do: Map.get(ref, :interpretation, :VIPS_INTERPRETATION_sRGB)

    def write_to_tensor(%{ref: %{failure: failure}}), do: {:error, failure}

    # The shape as older versions of Vix have it.
    def write_to_tensor(%{ref: %{shape: {height, width, bands}} = ref}) do
      {:ok,
       %{data: ref.data.(), shape: {width, height, bands}, type: Map.get(ref, :type, {:u, 8})}}
    end
  end
end

unless Code.ensure_loaded?(Nx) do
  defmodule Nx.Tensor do
    @moduledoc false
    defstruct [:data, :shape, :type]
  end

  defmodule Nx do
    @moduledoc false
    def shape(tensor), do: tensor.shape
    def type(tensor), do: tensor.type
    def to_binary(tensor), do: tensor.data.()
  end
end

defmodule Image.ZeroShot.Test.Upload do
  @moduledoc false
  defstruct [:path]

  defimpl Image.ZeroShot.Source do
    def prepare(%{path: :nonsense}, _limits), do: {:ok, "nonsense"}
    def prepare(%{path: nil}, _limits), do: nil
    def prepare(upload, limits), do: Image.ZeroShot.Source.prepare({:path, upload.path}, limits)
  end
end
