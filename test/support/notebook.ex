defmodule Image.ZeroShot.Test.Notebook do
  @moduledoc false

  # Runs the cells of a Livebook notebook, but for the first one, which installs. See the stand-ins of Kino.

  alias Image.ZeroShot.Test.Markdown

  @doc "The cell that installs, and the others, each with its line."
  def cells(path) do
    [{_line, setup} | cells] = path |> File.read!() |> Markdown.blocks("elixir")
    {setup, cells}
  end

  @doc """
  What each cell gave, in one binding from cell to cell, with values of inputs by their labels.
  """
  def run(path, inputs \\ %{}) do
    Process.put(:inputs, inputs)
    Process.put(:rendered, [])
    {_setup, cells} = cells(path)

    {shown, _state} =
      Enum.map_reduce(cells, {[], Code.env_for_eval([])}, fn {line, code}, {binding, env} ->
        quoted = Code.string_to_quoted!(code, file: path, line: line + 1)
        {value, binding, env} = Code.eval_quoted_with_env(quoted, binding, env)
        render(value)
        {value, {binding, env}}
      end)

    shown
  end

  @doc "Tells the notebook's form of new values, and returns what the frame then shows."
  def tell(frame, data) do
    {control, function} = Process.get(:listener)
    fields = Map.new(control.fields, fn {name, input} -> {name, input.attrs.default} end)
    function.(%{type: :change, origin: "test", data: Map.merge(fields, data)})
    shown(frame)
  end

  def shown(frame), do: Process.get({:frame, frame.id})

  # The inputs of a form are not on the page by themselves.
  defp render(%{__struct__: Kino.Input, id: id}),
    do: Process.put(:rendered, [id | Process.get(:rendered)])

  defp render(%{__struct__: Kino.Layout, items: items}), do: Enum.each(items, &render/1)
  defp render(_shown), do: :ok
end
