defmodule Image.ZeroShot.Picture.NxTensor do
  @moduledoc false

  # Reads the numbers of an `Nx.Tensor` once its size is within the limits. The native library orders
  # them and turns them into bytes.

  @compile {:no_warn_undefined, Nx}

  alias Image.ZeroShot.{Error, Source}
  alias Image.ZeroShot.Picture.{Limits, Pixels}

  @numbers %{
    {:u, 8} => :u8,
    {:u, 16} => :u16,
    {:u, 32} => :u32,
    {:u, 64} => :u64,
    {:s, 8} => :s8,
    {:s, 16} => :s16,
    {:s, 32} => :s32,
    {:s, 64} => :s64,
    {:f, 16} => :f16,
    {:bf, 16} => :bf16,
    {:f, 32} => :f32,
    {:f, 64} => :f64
  }

  @axes %{
    height: :height,
    h: :height,
    y: :height,
    width: :width,
    w: :width,
    x: :width,
    channels: :channels,
    channel: :channels,
    c: :channels,
    bands: :channels,
    band: :channels
  }

  # Backends of tensors that have no values yet
  @promises [Nx.TemplateBackend, Nx.Defn.Expr]

  @spec read(struct(), Source.limits()) :: {:ok, Source.source()} | {:error, Error.t()}
  def read(tensor, limits) do
    Pixels.guard("Nx", fn ->
      with :ok <- values(tensor),
           {:ok, {height, width, _channels} = shape, strides} <-
             axes(Nx.shape(tensor), Nx.names(tensor)),
           {:ok, number} <- number(Nx.type(tensor)),
           :ok <- Limits.check_size(height, width, limits) do
        layout = %{number: number, scale: :told, shape: shape, strides: strides, inks: false}
        {:ok, Pixels.source(Nx.to_binary(tensor), layout)}
      end
    end)
  end

  # Versions of Nx before 0.6 have no vectorized axes.
  defp values(%{vectorized_axes: [_ | _] = axes}) do
    refuse(
      "expected an Nx.Tensor without vectorized axes, got: #{inspect(axes)}; " <>
        "take one picture of Nx.devectorize(tensor)"
    )
  end

  defp values(%{data: %{__struct__: promise}}) when promise in @promises do
    refuse(
      "expected an Nx.Tensor with values, got one of #{inspect(promise)}, which stands for " <>
        "values to come; give the tensor that was computed"
    )
  end

  defp values(_tensor), do: :ok

  defp number(type) do
    case @numbers do
      %{^type => number} ->
        {:ok, number}

      _other ->
        refuse(
          "expected an Nx.Tensor of 8 to 64 bit integers or of 16 to 64 bit floats, " <>
            "got: #{inspect(type)}; convert it with Nx.as_type/2"
        )
    end
  end

  # Shape and strides of height, width and channels, whatever their order.
  defp axes(shape, names) do
    sizes = Tuple.to_list(shape)

    with {:ok, order} <- order(Enum.map(names, &Map.get(@axes, &1, &1)), shape, names) do
      steps = for at <- 1..length(sizes), do: sizes |> Enum.drop(at) |> Enum.product()
      axes = order |> Enum.zip(Enum.zip(sizes, steps)) |> Map.new()
      {{height, down}, {width, right}} = {axes.height, axes.width}
      {channels, deep} = Map.get(axes, :channels, {1, 1})

      if channels in 1..4,
        do: {:ok, {height, width, channels}, {down, right, deep}},
        else: wrong_shape(shape, names)
    end
  end

  # Names decide. Only where those given stand in the usual order may others be missing.
  defp order(known, shape, names) do
    usual = Enum.take([:height, :width, :channels], length(known))

    cond do
      length(known) not in 2..3 ->
        wrong_shape(shape, names)

      known |> Enum.zip(usual) |> Enum.all?(fn {name, axis} -> name in [nil, axis] end) ->
        {:ok, usual}

      Enum.sort(known) == Enum.sort(usual) ->
        {:ok, known}

      true ->
        wrong_names(names, usual)
    end
  end

  defp wrong_names(names, usual) do
    refuse(
      "cannot tell the axes of an Nx.Tensor by the names #{inspect(names)}; rename each, in the " <>
        "order of the tensor, such as Nx.rename(tensor, #{inspect(usual)})"
    )
  end

  defp wrong_shape(shape, names) do
    refuse(
      "expected an Nx.Tensor of height x width, or of height x width x channels with 1 to 4 " <>
        "channels, got: #{inspect(shape)}#{hint(shape, names)}"
    )
  end

  defp hint({_, _, _, _}, _names), do: "; of a batch give one picture, such as tensor[0]"

  defp hint({channels, _, _}, [nil, nil, nil]) when channels in 1..4,
    do:
      "; name the axes if they are in another order: Nx.rename(tensor, [:channels, :height, :width])"

  defp hint(_shape, _names), do: ""

  defp refuse(message), do: Error.error(:unsupported_image, message)
end
